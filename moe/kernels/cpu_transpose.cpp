#include "moe/kernels/cpu_transpose.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace moe::cpu {
namespace {

// A vector type of g++ and clang for any processor; four floats are in the baseline of all.
using Float4 = float __attribute__((vector_size(16)));

Float4 load(const float* from) {
  Float4 value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

void store(float* to, Float4 value) {
  std::memcpy(to, &value, sizeof(value));
}

/// out[j][i] = rows[i][column + j] for i, j < 4.
void transpose_4x4(const float* const* rows, int64_t column, Matrix out) {
  const Float4 a = load(rows[0] + column);
  const Float4 b = load(rows[1] + column);
  const Float4 c = load(rows[2] + column);
  const Float4 d = load(rows[3] + column);
  const Float4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
  const Float4 ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Float4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Float4 cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  store(out.data, __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5));
  store(out.data + out.stride, __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7));
  store(out.data + 2 * out.stride, __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5));
  store(out.data + 3 * out.stride, __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7));
}

/// At most 16 rows: one cache line of each row of `out`.
void transpose_strip(const float* const* rows, int64_t num_rows, int64_t width, Matrix out) {
  const int64_t full_rows = num_rows / 4 * 4;
  const int64_t full_width = width / 4 * 4;
  for (int64_t column = 0; column < full_width; column += 4) {
    for (int64_t i = 0; i < full_rows; i += 4) {
      transpose_4x4(rows + i, column, {out.data + column * out.stride + i, out.stride});
    }
  }
  for (int64_t i = 0; i < num_rows; ++i) {
    for (int64_t column = i < full_rows ? full_width : 0; column < width; ++column) {
      std::memcpy(&out.data[column * out.stride + i], &rows[i][column], sizeof(float));
    }
  }
}

} // namespace

void transpose_rows(const float* const* rows, int64_t num_rows, int64_t width, Matrix out) {
  for (int64_t i = 0; i < num_rows; i += 16) {
    const auto strip = std::min<int64_t>(16, num_rows - i);
    transpose_strip(rows + i, strip, width, {out.data + i, out.stride});
  }
}

void transpose(ConstMatrix in, int64_t num_rows, int64_t width, Matrix out) {
  std::array<const float*, 16> rows{};
  for (int64_t i = 0; i < num_rows; i += 16) {
    const auto strip = std::min<int64_t>(16, num_rows - i);
    for (int64_t j = 0; j < strip; ++j) {
      rows[j] = in.data + (i + j) * in.stride;
    }
    transpose_strip(rows.data(), strip, width, {out.data + i, out.stride});
  }
}

} // namespace moe::cpu
