#include "moe/kernels/cpu_softmax.h"

#include "moe/kernels/cpu_exponential.h"

namespace moe::cpu {
namespace {

// As in cpu_activation.cpp: one row, whose pointers alias nothing, vectorised over lanes.

[[gnu::always_inline]] inline void raise_lanes(
    int64_t lanes, const float* __restrict values, float* __restrict maximum) {
  for (int64_t i = 0; i < lanes; ++i) {
    maximum[i] = values[i] > maximum[i] ? values[i] : maximum[i];
  }
}

[[gnu::always_inline]] inline void exponentiate_lanes(
    int64_t lanes,
    float* __restrict values,
    const float* __restrict maximum,
    float* __restrict sum) {
  for (int64_t i = 0; i < lanes; ++i) {
    const float value = exponential(values[i] - maximum[i]);
    values[i] = value;
    sum[i] += value;
  }
}

[[gnu::always_inline]] inline void exponentiate_rows(
    int64_t rows, int64_t lanes, float* values, const float* maximum, float* sum) {
  for (int64_t row = 0; row < rows; ++row) {
    exponentiate_lanes(lanes, values + row * lanes, maximum, sum);
  }
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void exponentiate_avx2(
    int64_t rows, int64_t lanes, float* values, const float* maximum, float* sum) {
  exponentiate_rows(rows, lanes, values, maximum, sum);
}

[[gnu::target("avx512f")]] void exponentiate_avx512(
    int64_t rows, int64_t lanes, float* values, const float* maximum, float* sum) {
  exponentiate_rows(rows, lanes, values, maximum, sum);
}
#endif

} // namespace

#if defined(__x86_64__)
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void raise_maximum(int64_t rows, int64_t lanes, const float* values, float* maximum) {
  for (int64_t row = 0; row < rows; ++row) {
    raise_lanes(lanes, values + row * lanes, maximum);
  }
}

void exponentiate(
    int64_t rows, int64_t lanes, float* values, const float* maximum, float* sum) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return exponentiate_avx512(rows, lanes, values, maximum, sum);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return exponentiate_avx2(rows, lanes, values, maximum, sum);
  }
#endif
  exponentiate_rows(rows, lanes, values, maximum, sum);
}

} // namespace moe::cpu
