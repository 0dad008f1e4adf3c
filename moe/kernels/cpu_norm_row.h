#pragma once

#include <cmath>
#include <cstdint>

// Private to moe/kernels/cpu_*.cpp; not installed. Inline by force, so that the loops are
// compiled for the instruction sets of the functions that call them.

namespace moe::cpu {

/// y = weight · x · root with root = 1 / sqrt(mean(x²) + epsilon), for one vector [width].
/// Returns the root, which the backward pass takes.
[[gnu::always_inline]] inline float norm_row(
    int64_t width,
    float epsilon,
    const float* __restrict x,
    const float* __restrict weight,
    float* __restrict y) {
  float squares = 0.0F;
  for (int64_t i = 0; i < width; ++i) {
    squares += x[i] * x[i];
  }
  const float root = 1.0F / std::sqrt(squares / static_cast<float>(width) + epsilon);
  for (int64_t i = 0; i < width; ++i) {
    y[i] = weight[i] * (x[i] * root);
  }
  return root;
}

/// The derivative of `norm_row`: `gradient` is that of y; the weight's is added to.
[[gnu::always_inline]] inline void norm_row_backward(
    int64_t width,
    float root,
    const float* __restrict gradient,
    const float* __restrict x,
    const float* __restrict weight,
    float* __restrict x_gradient,
    float* __restrict weight_gradient) {
  float product = 0.0F;
  for (int64_t i = 0; i < width; ++i) {
    product += gradient[i] * weight[i] * x[i];
  }
  const float factor = product * root * root * root / static_cast<float>(width);
  for (int64_t i = 0; i < width; ++i) {
    x_gradient[i] = gradient[i] * weight[i] * root - x[i] * factor;
    weight_gradient[i] += gradient[i] * x[i] * root;
  }
}

} // namespace moe::cpu
