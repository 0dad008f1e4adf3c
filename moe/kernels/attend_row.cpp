#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "moe/kernels/attend_row.h"

#include <algorithm>

#include "moe/kernels/cpu_softmax.h"

namespace moe {
namespace {

// So many numbers of a head are computed at once, in registers: as many as lie together, for
// memory is read again with every chunk; narrow heads, and the rest of others, take the fewer.
constexpr int64_t kWideChunk = 64;
constexpr int64_t kChunk = 32;

float as_number(float number) {
  return number;
}
float as_number(Float16 number) {
  return from_float16(number);
}

// scores[t] = scale · query times key t.
template <typename Number>
void scores_portable(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const Number* keys,
    float* scores) {
  for (int64_t t = 0; t < length; ++t) {
    float sum = 0.0F;
    for (int64_t i = 0; i < head_dim; ++i) {
      sum += query[i] * as_number(keys[t * head_dim + i]);
    }
    scores[t] = scale * sum;
  }
}

#ifdef __x86_64__

// What multiplies by AVX2 and FMA converts float16 too: there is no processor with the former
// and without the latter.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

[[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline __m256 load_eight(
    const float* from) {
  return _mm256_loadu_ps(from);
}
[[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline __m256 load_eight(
    const Float16* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Four keys share the loads of the query and the adding up of lanes; a multiple of eight
// numbers in each.
template <typename Number>
[[gnu::target("avx2,fma,f16c")]] void scores_avx2(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const Number* keys,
    float* scores) {
  constexpr int64_t kKeys = 4;
  int64_t t = 0;
  for (; t + kKeys <= length; t += kKeys) {
    const Number* const key = keys + t * head_dim;
    __m256 sums[kKeys] = {};
    for (int64_t i = 0; i < head_dim; i += 8) {
      const __m256 part = _mm256_loadu_ps(query + i);
      for (int64_t k = 0; k < kKeys; ++k) {
        sums[k] = _mm256_fmadd_ps(load_eight(key + k * head_dim + i), part, sums[k]);
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

// out [8 · registers] = sum over t of weights[t] · rows[t * stride].
template <int64_t registers>
[[gnu::target("avx2,fma,f16c"), gnu::always_inline]] inline void weighted_sum_avx2(
    int64_t length, int64_t stride, const float* weights, const Float16* rows, float* out) {
  __m256 sums[registers] = {};
  for (int64_t t = 0; t < length; ++t) {
    const __m256 weight = _mm256_set1_ps(weights[t]);
    for (int64_t i = 0; i < registers; ++i) {
      sums[i] = _mm256_fmadd_ps(load_eight(rows + t * stride + 8 * i), weight, sums[i]);
    }
  }
  for (int64_t i = 0; i < registers; ++i) {
    _mm256_storeu_ps(out + 8 * i, sums[i]);
  }
}

[[gnu::target("avx2,fma,f16c")]] void weigh_values_avx2(
    int64_t length, int64_t head_dim, const float* weights, const Float16* values, float* out) {
  int64_t i = 0;
  for (; i + kWideChunk <= head_dim; i += kWideChunk) {
    weighted_sum_avx2<kWideChunk / 8>(length, head_dim, weights, values + i, out + i);
  }
  for (; i + kChunk <= head_dim; i += kChunk) {
    weighted_sum_avx2<kChunk / 8>(length, head_dim, weights, values + i, out + i);
  }
  for (; i < head_dim; i += 8) {
    weighted_sum_avx2<1>(length, head_dim, weights, values + i, out + i);
  }
}

#endif

template <typename Number>
void compute_scores(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const Number* keys,
    float* scores) {
#ifdef __x86_64__
  if (head_dim % 8 == 0 && has_avx2()) {
    return scores_avx2(length, head_dim, scale, query, keys, scores);
  }
#endif
  scores_portable(length, head_dim, scale, query, keys, scores);
}

// out [width] = sum over t of weights[t] · rows[t * stride]; a constant width unrolls.
template <typename Number>
[[gnu::always_inline]] inline void weighted_sum(
    int64_t width,
    int64_t length,
    int64_t stride,
    const float* __restrict weights,
    const Number* __restrict rows,
    float* __restrict out) {
  float sums[kWideChunk] = {};
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t i = 0; i < width; ++i) {
      sums[i] += weights[t] * as_number(rows[t * stride + i]);
    }
  }
  std::copy_n(sums, width, out);
}

template <typename Number>
[[gnu::always_inline]] inline void weigh_by_chunks(
    int64_t length, int64_t head_dim, const float* weights, const Number* values, float* out) {
  int64_t i = 0;
  for (; i + kWideChunk <= head_dim; i += kWideChunk) {
    weighted_sum(kWideChunk, length, head_dim, weights, values + i, out + i);
  }
  for (; i + kChunk <= head_dim; i += kChunk) {
    weighted_sum(kChunk, length, head_dim, weights, values + i, out + i);
  }
  if (i < head_dim) {
    weighted_sum(head_dim - i, length, head_dim, weights, values + i, out + i);
  }
}

// Compiled for each of these instruction sets; the one to run is chosen when the program is
// loaded.
#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void weigh_values(
    int64_t length, int64_t head_dim, const float* weights, const float* values, float* out) {
  weigh_by_chunks(length, head_dim, weights, values, out);
}

void weigh_values(
    int64_t length, int64_t head_dim, const float* weights, const Float16* values, float* out) {
#ifdef __x86_64__
  if (head_dim % 8 == 0 && has_avx2()) {
    return weigh_values_avx2(length, head_dim, weights, values, out);
  }
#endif
  weigh_by_chunks(length, head_dim, weights, values, out);
}

template <typename Number>
void attend(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* sink,
    const float* query,
    const Number* keys,
    const Number* values,
    float* scores,
    float* out) {
  compute_scores(length, head_dim, scale, query, keys, scores);
  if (sink != nullptr) {
    scores[length] = *sink;
  }
  cpu::softmax_row(sink != nullptr ? length + 1 : length, scores);
  weigh_values(length, head_dim, scores, values, out);
}

} // namespace

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
  attend(length, head_dim, scale, sink, query, keys, values, scores, out);
}

void attend_row(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* sink,
    const float* query,
    const Float16* keys,
    const Float16* values,
    float* scores,
    float* out) {
  attend(length, head_dim, scale, sink, query, keys, values, scores, out);
}

} // namespace moe
