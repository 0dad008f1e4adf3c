#include "moe/kernels/packed_matrix.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#include "moe/error.h"
#include "moe/kernels/cpu_bfloat16.h"

namespace moe {
namespace {

constexpr std::array<std::pair<WeightType, std::string_view>, 3> kWeightTypeNames{{
    {WeightType::float32, "float32"},
    {WeightType::bfloat16, "bfloat16"},
    {WeightType::int8, "int8"},
}};

int64_t element_bytes(WeightType type) {
  switch (type) {
    case WeightType::float32:
      return 4;
    case WeightType::bfloat16:
      return 2;
    case WeightType::int8:
      return 1;
  }
  fail("weight type: no size for value ", static_cast<int>(type));
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void unpack_int8(const int8_t* quantized, const float* scales, int64_t count, float* weights) {
  for (int64_t first = 0; first < count; first += kWeightGroup) {
    const float scale = scales[first / kWeightGroup];
    const int64_t end = std::min(first + kWeightGroup, count);
    for (int64_t i = first; i < end; ++i) {
      weights[i] = static_cast<float>(quantized[i]) * scale;
    }
  }
}

/// The scale of a group and its whole numbers.
float quantize_group(const float* weights, int64_t count, int8_t* quantized) {
  float largest = 0.0F;
  for (int64_t i = 0; i < count; ++i) {
    check(std::isfinite(weights[i]), "int8 weights: a weight of the model is ", weights[i]);
    largest = std::max(largest, std::abs(weights[i]));
  }
  const float scale = largest / 127.0F;
  const float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
  for (int64_t i = 0; i < count; ++i) {
    const float whole = std::nearbyint(weights[i] * inverse);
    quantized[i] = static_cast<int8_t>(std::clamp(whole, -127.0F, 127.0F));
  }
  return scale;
}

/// `count` zeros. Large arrays lie in large pages where the system has them: a token reads
/// experts from all over the model, and every small page that it touches is looked up first.
template <typename T>
std::shared_ptr<T> zeros(int64_t count) {
  constexpr size_t kLargePage = size_t{2} << 20;
  constexpr size_t kCacheLine = 64;
  const auto bytes = static_cast<size_t>(count) * sizeof(T);
  const auto alignment = std::align_val_t{bytes >= kLargePage ? kLargePage : kCacheLine};
  void* const memory = ::operator new(bytes, alignment);
#ifdef __linux__
  if (bytes >= kLargePage) {
    madvise(memory, bytes / kLargePage * kLargePage, MADV_HUGEPAGE); // a wish, no more
  }
#endif
  std::memset(memory, 0, bytes);
  return {
      static_cast<T*>(memory), [alignment](T* first) { ::operator delete(first, alignment); }};
}

} // namespace

std::string_view weight_type_name(WeightType type) {
  for (const auto& [known, name] : kWeightTypeNames) {
    if (known == type) {
      return name;
    }
  }
  fail("weight type: no name for value ", static_cast<int>(type));
}

WeightType weight_type_from_name(std::string_view name) {
  for (const auto& [type, known] : kWeightTypeNames) {
    if (known == name) {
      return type;
    }
  }
  fail("weights: '", name, "' is not one of float32, bfloat16, int8");
}

int64_t PackedMatrix::row_bytes() const {
  const int64_t scale_bytes = type == WeightType::int8 ? stride / kWeightGroup * 4 : 0;
  return stride * element_bytes(type) + scale_bytes;
}

int64_t padded_columns(int64_t columns) {
  return (columns + kWeightGroup - 1) / kWeightGroup * kWeightGroup;
}

PackedMatrix view_matrix(std::shared_ptr<const float> weights, int64_t rows, int64_t columns) {
  return {WeightType::float32, rows, columns, columns, std::move(weights), nullptr};
}

PackedMatrix pack_matrix(const float* weights, int64_t rows, int64_t columns, WeightType type) {
  PackedMatrix matrix{type, rows, columns, columns, nullptr, nullptr};
  if (type == WeightType::float32) {
    auto copy = zeros<float>(rows * columns);
    std::copy_n(weights, rows * columns, copy.get());
    matrix.weights = std::move(copy);
    return matrix;
  }
  matrix.stride = padded_columns(columns);
  if (type == WeightType::bfloat16) {
    auto halves = zeros<uint16_t>(rows * matrix.stride);
    for (int64_t row = 0; row < rows; ++row) {
      cpu::round_row(weights + row * columns, columns, halves.get() + row * matrix.stride);
    }
    matrix.weights = std::move(halves);
    return matrix;
  }
  const int64_t groups = matrix.stride / kWeightGroup;
  auto quantized = zeros<int8_t>(rows * matrix.stride);
  auto scales = zeros<float>(rows * groups);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t first = group * kWeightGroup;
      scales.get()[row * groups + group] = quantize_group(
          weights + row * columns + first,
          std::min(kWeightGroup, columns - first),
          quantized.get() + row * matrix.stride + first);
    }
  }
  matrix.weights = std::move(quantized);
  matrix.scales = std::move(scales);
  return matrix;
}

void unpack_rows(
    const PackedMatrix& matrix, int64_t first_row, int64_t num_rows, float* weights) {
  const void* from = matrix.weights.get();
  for (int64_t row = first_row; row < first_row + num_rows; ++row) {
    float* const out = weights + (row - first_row) * matrix.columns;
    const int64_t start = row * matrix.stride;
    switch (matrix.type) {
      case WeightType::float32:
        std::copy_n(static_cast<const float*>(from) + start, matrix.columns, out);
        break;
      case WeightType::bfloat16:
        cpu::widen_row(static_cast<const uint16_t*>(from) + start, matrix.columns, out);
        break;
      case WeightType::int8:
        unpack_int8(
            static_cast<const int8_t*>(from) + start,
            matrix.scales.get() + start / kWeightGroup,
            matrix.columns,
            out);
        break;
    }
  }
}

PackedVector pack_vector(
    WeightType type, int64_t columns, const float* values, int16_t* quantized) {
  if (type != WeightType::int8) {
    return {values, nullptr, 0.0F};
  }
  float largest = 0.0F;
  for (int64_t i = 0; i < columns; ++i) {
    largest = std::max(largest, std::abs(values[i]));
  }
  const float inverse = largest > 0.0F ? 32767.0F / largest : 0.0F;
  for (int64_t i = 0; i < padded_columns(columns); ++i) {
    // Adding 1.5 · 2^23 leaves the rounded number in the low bits.
    const float shifted = values[i] * inverse + 12582912.0F;
    quantized[i] = static_cast<int16_t>(std::bit_cast<uint32_t>(shifted));
  }
  return {values, quantized, largest / 32767.0F};
}

} // namespace moe
