#include "moe/kernels/attend_row.h"

#include <algorithm>

#include "moe/kernels/cpu_softmax.h"

namespace moe {
namespace {

// So many numbers of a head are computed at once, in registers.
constexpr int64_t kChunk = 32;

[[gnu::always_inline]] inline float dot(
    int64_t size, const float* __restrict a, const float* __restrict b) {
  float sum = 0.0F;
  for (int64_t i = 0; i < size; ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

// out [width] = sum over t of weights[t] · rows[t * stride]; a constant width unrolls.
[[gnu::always_inline]] inline void weighted_sum(
    int64_t width,
    int64_t length,
    int64_t stride,
    const float* __restrict weights,
    const float* __restrict rows,
    float* __restrict out) {
  float sums[kChunk] = {};
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      sums[i] += weights[t] * rows[t * stride + i];
    }
  }
  std::copy_n(sums, width, out);
}

} // namespace

// Compiled for each of these instruction sets; the one to run is chosen when the program is
// loaded.
#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void attend_row(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* sink,
    const float* query,
    const float* keys,
    const float* values,
    float* scores,
    float* out) {
  for (int64_t t = 0; t < length; ++t) {
    scores[t] = scale * dot(head_dim, query, keys + t * head_dim);
  }
  if (sink != nullptr) {
    scores[length] = *sink;
  }
  cpu::softmax_row(sink != nullptr ? length + 1 : length, scores);
  int64_t i = 0;
  for (; i + kChunk <= head_dim; i += kChunk) {
    weighted_sum(kChunk, length, head_dim, scores, values + i, out + i);
  }
  if (i < head_dim) {
    weighted_sum(head_dim - i, length, head_dim, scores, values + i, out + i);
  }
}

} // namespace moe
