#include "moe/training/adamw_kernel.h"

#include <cmath>

namespace moe {

// The compiler vectorises both loops for each of these instruction sets; the one to run is
// chosen when the program is loaded.
#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void adamw_step(
    float* __restrict parameter,
    float* __restrict exp_avg,
    float* __restrict exp_avg_sq,
    const float* __restrict gradient,
    int64_t size,
    const AdamWStep& constants) {
  const AdamWStep c = constants;
  for (int64_t i = 0; i < size; ++i) {
    const float g = gradient[i] * c.gradient_scale;
    const float m = c.beta1 * exp_avg[i] + (1.0f - c.beta1) * g;
    const float v = c.beta2 * exp_avg_sq[i] + (1.0f - c.beta2) * g * g;
    exp_avg[i] = m;
    exp_avg_sq[i] = v;
    const float denominator = std::sqrt(v) * c.inverse_sqrt_correction2 + c.epsilon;
    parameter[i] = parameter[i] * c.keep - c.step_size * m / denominator;
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
double
squared_sum(const float* values, int64_t size) {
  constexpr int64_t kLanes = 16;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
  }
  double sum = 0.0;
  for (const double lane : lanes) {
    sum += lane;
  }
  for (; i < size; ++i) {
    sum += static_cast<double>(values[i]) * values[i];
  }
  return sum;
}

} // namespace moe
