#include "moe/kernels/cpu_rows.h"

#include <array>

#include "moe/kernels/cpu_bfloat16.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_transpose.h"

namespace moe::cpu {
namespace {

/// Adds up the rows of one token. `rows` [K], -1 for none; `results` [N, width].
void add_rows(
    const int32_t* rows, int64_t num_rows, const float* results, int64_t width, float* sum) {
  std::fill_n(sum, width, 0.0F);
  for (int64_t k = 0; k < num_rows; ++k) {
    if (rows[k] >= 0) {
      const float* result = results + rows[k] * width;
      for (int64_t d = 0; d < width; ++d) {
        sum[d] += result[d];
      }
    }
  }
}

} // namespace

void gather_transposed(
    const RowTile& tile,
    const int32_t* row_token,
    const float* tokens,
    int64_t width,
    float* out) {
  std::array<const float*, kMaxLanes> rows{};
  for (int64_t i = 0; i < tile.rows; ++i) {
    rows[i] = tokens + row_token[tile.first_row + i] * width;
  }
  transpose_rows(rows.data(), tile.rows, width, {out, tile.lanes});
  for (int64_t d = 0; tile.rows < tile.lanes && d < width; ++d) {
    std::fill(out + d * tile.lanes + tile.rows, out + (d + 1) * tile.lanes, 0.0F);
  }
}

void gather_transposed(
    const RowTile& tile,
    const int32_t* row_token,
    const float* tokens,
    int64_t width,
    uint16_t* out) {
  // Two neighbours in a rounded row are one of the pairs, so pairs are transposed as words.
  constexpr int64_t strip = 16;
  constexpr int64_t depth = 256;
  alignas(float) std::array<uint16_t, strip * depth> rounded{};
  const auto words = [](auto* halves) { return reinterpret_cast<float*>(halves); };
  for (int64_t d = 0; d < width; d += depth) {
    const auto count = std::min(depth, width - d);
    for (int64_t lane = 0; lane < tile.lanes; lane += strip) {
      for (int64_t i = 0; i < strip; ++i) {
        uint16_t* const row = rounded.data() + i * depth;
        const auto at = lane + i;
        if (at < tile.rows) {
          round_row(tokens + row_token[tile.first_row + at] * width + d, count, row);
        } else {
          std::fill_n(row, count, 0);
        }
      }
      transpose(
          {words(rounded.data()), depth / 2},
          strip,
          count / 2,
          {words(out + d * tile.lanes + 2 * lane), tile.lanes});
    }
  }
}

void gather_weights(const RowTile& tile, const float* row_weight, float* out) {
  std::copy_n(row_weight + tile.first_row, tile.rows, out);
  std::fill(out + tile.rows, out + tile.lanes, 0.0F);
}

at::Tensor combine(const at::Tensor& results, const at::Tensor& token_rows) {
  constexpr int64_t tokens_per_task = 32;
  const auto num_tokens = token_rows.size(0);
  const auto per_token = token_rows.size(1);
  const auto width = results.size(1);
  auto sum = at::empty({num_tokens, width}, results.options());
  const int32_t* rows = token_rows.const_data_ptr<int32_t>();
  const float* from = results.const_data_ptr<float>();
  float* to = sum.mutable_data_ptr<float>();
  const auto num_tasks = (num_tokens + tokens_per_task - 1) / tokens_per_task;
  run_tasks(num_tasks, /*scratch_size=*/0, [&](int64_t task, float*) {
    const auto end = std::min(num_tokens, (task + 1) * tokens_per_task);
    for (int64_t token = task * tokens_per_task; token < end; ++token) {
      add_rows(rows + token * per_token, per_token, from, width, to + token * width);
    }
  });
  return sum;
}

} // namespace moe::cpu
