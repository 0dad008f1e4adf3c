#ifdef __x86_64__
#include <immintrin.h>
#endif

#include "moe/kernels/bfloat16.h"
#include "moe/kernels/packed_matrix.h"

namespace moe {
namespace {

// Rows that are computed together, so that the loads of the vector serve all of them and their
// sums do not wait for each other.
constexpr int64_t kRowBlock = 4;

// So many weights ahead are asked for: the processor's own prefetching ends at every page, and
// starts anew with every expert. The best of 2^8 to 2^12 on Zen 3.
constexpr int64_t kFloatsAhead = 512;
constexpr int64_t kInt8Ahead = 1024;
constexpr int64_t kCacheLine = 64;

float portable_weight(const PackedMatrix& matrix, int64_t at) {
  if (matrix.type == WeightType::float32) {
    return static_cast<const float*>(matrix.weights.get())[at];
  }
  return from_bfloat16(static_cast<const uint16_t*>(matrix.weights.get())[at]);
}

float portable_product(const PackedMatrix& matrix, int64_t row, const PackedVector& vector) {
  const int64_t start = row * matrix.stride;
  float sum = 0.0F;
  if (matrix.type != WeightType::int8) {
    for (int64_t i = 0; i < matrix.columns; ++i) {
      sum += portable_weight(matrix, start + i) * vector.values[i];
    }
    return sum;
  }
  const auto* weights = static_cast<const int8_t*>(matrix.weights.get()) + start;
  for (int64_t i = 0; i < matrix.stride; i += kWeightGroup) {
    int32_t whole = 0;
    for (int64_t j = i; j < i + kWeightGroup; ++j) {
      whole += int32_t{weights[j]} * vector.quantized[j];
    }
    sum += static_cast<float>(whole) * matrix.scales.get()[(start + i) / kWeightGroup];
  }
  return sum * vector.scale;
}

#ifdef __x86_64__

// Loops over kBlock rows are unrolled by the compiler; the sums stay in registers.

[[gnu::target("avx2,fma"), gnu::always_inline]] inline float sum_lanes(__m256 lanes) {
  const __m128 four =
      _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

[[gnu::target("avx2,fma"), gnu::always_inline]] inline __m256 load_eight(const float* from) {
  return _mm256_loadu_ps(from);
}

[[gnu::target("avx2,fma"), gnu::always_inline]] inline __m256 load_eight(const uint16_t* from) {
  const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}

[[gnu::always_inline]] inline float load_one(float value) {
  return value;
}

[[gnu::always_inline]] inline float load_one(uint16_t half) {
  return from_bfloat16(half);
}

// out[i] = row i times x, for kBlock rows of floats or bfloat16.
template <int kBlock, typename Weight>
[[gnu::target("avx2,fma"), gnu::always_inline]] inline void float_block(
    const Weight* weights, int64_t stride, int64_t columns, const float* x, float* out) {
  __m256 even[kBlock];
  __m256 odd[kBlock];
  for (int r = 0; r < kBlock; ++r) {
    even[r] = _mm256_setzero_ps();
    odd[r] = _mm256_setzero_ps();
  }
  int64_t i = 0;
  for (; i + 16 <= columns; i += 16) {
    const __m256 x0 = _mm256_loadu_ps(x + i);
    const __m256 x1 = _mm256_loadu_ps(x + i + 8);
    for (int r = 0; r < kBlock; ++r) {
      if (i * int64_t{sizeof(Weight)} % kCacheLine == 0) {
        __builtin_prefetch(weights + r * stride + i + kFloatsAhead);
      }
      even[r] = _mm256_fmadd_ps(load_eight(weights + r * stride + i), x0, even[r]);
      odd[r] = _mm256_fmadd_ps(load_eight(weights + r * stride + i + 8), x1, odd[r]);
    }
  }
  for (int r = 0; r < kBlock; ++r) {
    float sum = sum_lanes(_mm256_add_ps(even[r], odd[r]));
    for (int64_t j = i; j < columns; ++j) {
      sum += load_one(weights[r * stride + j]) * x[j];
    }
    out[r] = sum;
  }
}

// The same for int8: the products of a group are exact, its scale multiplies their sum.
template <int kBlock>
[[gnu::target("avx2,fma"), gnu::always_inline]] inline void int8_block(
    const int8_t* weights,
    const float* scales,
    int64_t stride,
    const PackedVector& vector,
    float* out) {
  const int64_t groups = stride / kWeightGroup;
  __m256 sums[kBlock];
  for (int r = 0; r < kBlock; ++r) {
    sums[r] = _mm256_setzero_ps();
  }
  for (int64_t group = 0; group < groups; ++group) {
    __m256i whole[kBlock];
    for (int r = 0; r < kBlock; ++r) {
      whole[r] = _mm256_setzero_si256();
      __builtin_prefetch(weights + r * stride + group * kWeightGroup + kInt8Ahead);
    }
    const int64_t first = group * kWeightGroup;
    for (int64_t i = first; i < first + kWeightGroup; i += 16) {
      const __m256i x =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(vector.quantized + i));
      for (int r = 0; r < kBlock; ++r) {
        const __m128i bytes =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(weights + r * stride + i));
        whole[r] =
            _mm256_add_epi32(whole[r], _mm256_madd_epi16(_mm256_cvtepi8_epi16(bytes), x));
      }
    }
    for (int r = 0; r < kBlock; ++r) {
      const __m256 scale = _mm256_broadcast_ss(scales + r * groups + group);
      sums[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole[r]), scale, sums[r]);
    }
  }
  for (int r = 0; r < kBlock; ++r) {
    out[r] = sum_lanes(sums[r]) * vector.scale;
  }
}

template <int kBlock>
[[gnu::target("avx2,fma"), gnu::always_inline]] inline void any_block(
    const PackedMatrix& matrix, int64_t row, const PackedVector& vector, float* out) {
  const int64_t start = row * matrix.stride;
  const void* weights = matrix.weights.get();
  switch (matrix.type) {
    case WeightType::float32:
      return float_block<kBlock>(
          static_cast<const float*>(weights) + start,
          matrix.stride,
          matrix.columns,
          vector.values,
          out);
    case WeightType::bfloat16:
      return float_block<kBlock>(
          static_cast<const uint16_t*>(weights) + start,
          matrix.stride,
          matrix.stride,
          vector.values,
          out);
    case WeightType::int8:
      return int8_block<kBlock>(
          static_cast<const int8_t*>(weights) + start,
          matrix.scales.get() + start / kWeightGroup,
          matrix.stride,
          vector,
          out);
  }
}

[[gnu::target("avx2,fma")]] void multiply_avx2(
    const PackedMatrix& matrix,
    int64_t first_row,
    int64_t num_rows,
    const PackedVector& vector,
    float* out) {
  int64_t i = 0;
  for (; i + kRowBlock <= num_rows; i += kRowBlock) {
    any_block<kRowBlock>(matrix, first_row + i, vector, out + i);
  }
  for (; i < num_rows; ++i) {
    any_block<1>(matrix, first_row + i, vector, out + i);
  }
}

#endif

} // namespace

void multiply_rows_portable(
    const PackedMatrix& matrix,
    int64_t first_row,
    int64_t num_rows,
    const PackedVector& vector,
    float* out) {
  for (int64_t i = 0; i < num_rows; ++i) {
    out[i] = portable_product(matrix, first_row + i, vector);
  }
}

void multiply_rows(
    const PackedMatrix& matrix,
    int64_t first_row,
    int64_t num_rows,
    const PackedVector& vector,
    float* out) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return multiply_avx2(matrix, first_row, num_rows, vector, out);
  }
#endif
  multiply_rows_portable(matrix, first_row, num_rows, vector, out);
}

} // namespace moe
