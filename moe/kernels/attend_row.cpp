#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "moe/kernels/attend_row.h"

#include <algorithm>

#include "moe/kernels/cpu_softmax.h"

namespace moe {
namespace {

// So many numbers of a head are computed at once, in registers.
constexpr int64_t kChunk = 32;

// scores[t] = scale · query times key t.
void scores_portable(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const float* keys,
    float* scores) {
  for (int64_t t = 0; t < length; ++t) {
    float sum = 0.0F;
    for (int64_t i = 0; i < head_dim; ++i) {
      sum += query[i] * keys[t * head_dim + i];
    }
    scores[t] = scale * sum;
  }
}

#ifdef __x86_64__

// Four keys share the loads of the query and the adding up of lanes; a multiple of eight
// numbers in each.
[[gnu::target("avx2,fma")]] void scores_avx2(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const float* keys,
    float* scores) {
  constexpr int64_t kKeys = 4;
  int64_t t = 0;
  for (; t + kKeys <= length; t += kKeys) {
    const float* const key = keys + t * head_dim;
    __m256 sums[kKeys] = {};
    for (int64_t i = 0; i < head_dim; i += 8) {
      const __m256 part = _mm256_loadu_ps(query + i);
      for (int64_t k = 0; k < kKeys; ++k) {
        sums[k] = _mm256_fmadd_ps(_mm256_loadu_ps(key + k * head_dim + i), part, sums[k]);
      }
    }
    const __m256 pairs =
        _mm256_hadd_ps(_mm256_hadd_ps(sums[0], sums[1]), _mm256_hadd_ps(sums[2], sums[3]));
    const __m128 products =
        _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
    _mm_storeu_ps(scores + t, _mm_mul_ps(products, _mm_set1_ps(scale)));
  }
  scores_portable(length - t, head_dim, scale, query, keys + t * head_dim, scores + t);
}

#endif

void compute_scores(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const float* keys,
    float* scores) {
#ifdef __x86_64__
  if (head_dim % 8 == 0 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return scores_avx2(length, head_dim, scale, query, keys, scores);
  }
#endif
  scores_portable(length, head_dim, scale, query, keys, scores);
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
  compute_scores(length, head_dim, scale, query, keys, scores);
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
