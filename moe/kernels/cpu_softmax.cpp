#include "moe/kernels/cpu_softmax.h"

#include <algorithm>
#include <numeric>

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

[[gnu::always_inline]] inline void multiply_lanes(
    int64_t lanes, const float* __restrict factor, float* __restrict values) {
  for (int64_t i = 0; i < lanes; ++i) {
    values[i] *= factor[i];
  }
}

[[gnu::always_inline]] inline void rescale_rows(
    int64_t rows,
    int64_t lanes,
    const float* __restrict maximum,
    float* __restrict factor,
    float* sum,
    float* weighted) {
  for (int64_t i = 0; i < lanes; ++i) {
    factor[i] = exponential(factor[i] - maximum[i]);
  }
  multiply_lanes(lanes, factor, sum);
  for (int64_t row = 0; row < rows; ++row) {
    multiply_lanes(lanes, factor, weighted + row * lanes);
  }
}

[[gnu::always_inline]] inline void differentiate_lanes(
    int64_t lanes,
    const float* __restrict log_sum,
    const float* __restrict product,
    float* __restrict scores,
    float* __restrict gradients) {
  for (int64_t i = 0; i < lanes; ++i) {
    const float probability = exponential(scores[i] - log_sum[i]);
    scores[i] = probability;
    gradients[i] = probability * (gradients[i] - product[i]);
  }
}

[[gnu::always_inline]] inline void differentiate_rows(
    int64_t rows,
    int64_t lanes,
    const float* log_sum,
    const float* product,
    float* scores,
    float* gradients) {
  for (int64_t row = 0; row < rows; ++row) {
    differentiate_lanes(lanes, log_sum, product, scores + row * lanes, gradients + row * lanes);
  }
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma")]] void differentiate_avx2(
    int64_t rows,
    int64_t lanes,
    const float* log_sum,
    const float* product,
    float* scores,
    float* gradients) {
  differentiate_rows(rows, lanes, log_sum, product, scores, gradients);
}

[[gnu::target("avx512f")]] void differentiate_avx512(
    int64_t rows,
    int64_t lanes,
    const float* log_sum,
    const float* product,
    float* scores,
    float* gradients) {
  differentiate_rows(rows, lanes, log_sum, product, scores, gradients);
}

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

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void softmax_row(int64_t size, float* __restrict values) {
  // Lanes of their own, because the compiler must not reorder sums here.
  constexpr int64_t kLanes = 16;
  const int64_t whole = size / kLanes * kLanes;
  float maxima[kLanes];
  std::fill_n(maxima, kLanes, values[0]);
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = values[i + lane];
      maxima[lane] = maxima[lane] > value ? maxima[lane] : value;
    }
  }
  float largest = *std::max_element(maxima, maxima + kLanes);
  for (int64_t i = whole; i < size; ++i) {
    largest = std::max(largest, values[i]);
  }
  float sums[kLanes] = {};
  for (int64_t i = 0; i < whole; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const float value = exponential(values[i + lane] - largest);
      values[i + lane] = value;
      sums[lane] += value;
    }
  }
  float sum = std::accumulate(sums, sums + kLanes, 0.0F);
  for (int64_t i = whole; i < size; ++i) {
    values[i] = exponential(values[i] - largest);
    sum += values[i];
  }
  const float inverse = 1.0F / sum;
  for (int64_t i = 0; i < size; ++i) {
    values[i] *= inverse;
  }
}

#if defined(__x86_64__)
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void rescale(
    int64_t rows,
    int64_t lanes,
    const float* maximum,
    float* old_maximum,
    float* sum,
    float* weighted) {
  rescale_rows(rows, lanes, maximum, old_maximum, sum, weighted);
}

void softmax_gradient(
    int64_t rows,
    int64_t lanes,
    const float* log_sum,
    const float* product,
    float* scores,
    float* gradients) {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f")) {
    return differentiate_avx512(rows, lanes, log_sum, product, scores, gradients);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return differentiate_avx2(rows, lanes, log_sum, product, scores, gradients);
  }
#endif
  differentiate_rows(rows, lanes, log_sum, product, scores, gradients);
}

} // namespace moe::cpu
