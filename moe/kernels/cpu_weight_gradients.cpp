#include "moe/kernels/cpu_weight_gradients.h"

#include <algorithm>

#include "moe/kernels/cpu_bfloat16.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_transpose.h"

namespace moe::cpu {
namespace {

// A panel of the gradient takes 256 KiB; a slab of tokens 64 KiB, gathered once per panel.
constexpr int64_t kGradientRows = 512;
constexpr int64_t kGradientColumns = 128;

/// Part of one expert's gradient: rows of `width`, columns of `dim`.
template <typename Element>
struct Panel {
  const WeightGradient<Element>* of;
  int64_t expert;
  int64_t row;
  int64_t rows;
  int64_t column;
  int64_t columns;
  int64_t cost;
};

template <typename Element>
void append_panels(
    const WeightGradient<Element>& weight,
    int64_t expert,
    int64_t lanes,
    std::vector<Panel<Element>>& panels) {
  if (weight.gradient == nullptr) {
    return;
  }
  for (int64_t row = 0; row < weight.width; row += kGradientRows) {
    const auto rows = std::min(kGradientRows, weight.width - row);
    for (int64_t column = 0; column < weight.dim; column += kGradientColumns) {
      const auto columns = std::min(kGradientColumns, weight.dim - column);
      panels.push_back({&weight, expert, row, rows, column, columns, rows * columns * lanes});
    }
  }
}

template <typename Element>
std::vector<Panel<Element>> all_panels(
    const RowTiles& plan,
    const WeightGradient<Element>& up,
    const WeightGradient<Element>& down) {
  std::vector<Panel<Element>> panels;
  const auto num_experts = static_cast<int64_t>(plan.first_of_expert.size()) - 1;
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    int64_t lanes = 0;
    for (auto i = plan.first_of_expert[expert]; i < plan.first_of_expert[expert + 1]; ++i) {
      lanes += plan.tiles[i].lanes;
    }
    append_panels(up, expert, lanes, panels);
    append_panels(down, expert, lanes, panels);
  }
  std::stable_sort(panels.begin(), panels.end(), [](const auto& a, const auto& b) {
    return a.cost > b.cost;
  });
  return panels;
}

/// Some columns of the tile's tokens: out [lanes, columns], zeros past the last row.
void gather_columns(
    const RowTile& tile, const int32_t* row_token, const Panel<float>& panel, float* out) {
  const float* from = panel.of->tokens + panel.column;
  for (int64_t i = 0; i < tile.rows; ++i) {
    const float* row = from + row_token[tile.first_row + i] * panel.of->dim;
    std::copy_n(row, panel.columns, out + i * panel.columns);
  }
  std::fill(out + tile.rows * panel.columns, out + tile.lanes * panel.columns, 0.0F);
}

/// The same rounded to bfloat16, in pairs.
void gather_columns(
    const RowTile& tile,
    const int32_t* row_token,
    const Panel<uint16_t>& panel,
    uint16_t* out) {
  const auto row = [&](int64_t i) {
    return i < tile.rows
               ? panel.of->tokens + panel.column + row_token[tile.first_row + i] * panel.of->dim
               : nullptr;
  };
  for (int64_t i = 0; i < tile.rows; i += 2) {
    round_to_pair(row(i), row(i + 1), panel.columns, out + i * panel.columns);
  }
  const auto filled = (tile.rows + 1) / 2 * 2;
  std::fill(out + filled * panel.columns, out + tile.lanes * panel.columns, 0);
}

void fill_zero(int64_t rows, int64_t columns, Matrix out) {
  for (int64_t i = 0; i < rows; ++i) {
    std::fill_n(out.data + i * out.stride, columns, 0.0F);
  }
}

template <typename Element>
void sum_panels(
    const RowTiles& plan,
    const int32_t* row_token,
    const WeightGradient<Element>& up,
    const WeightGradient<Element>& down) {
  const auto panels = all_panels(plan, up, down);
  constexpr int64_t tokens_size = kMaxLanes * kGradientColumns;
  constexpr int64_t scratch_size = tokens_size + kGradientRows * kGradientColumns;
  run_tasks(static_cast<int64_t>(panels.size()), scratch_size, [&](int64_t i, float* scratch) {
    const MatrixRegisters registers;
    const Panel<Element>& panel = panels[i];
    const WeightGradient<Element>& weight = *panel.of;
    auto* const tokens = reinterpret_cast<Element*>(scratch);
    float* const gradient = weight.gradient + panel.expert * weight.width * weight.dim;
    const Matrix in_place{gradient + panel.row * weight.dim + panel.column, weight.dim};
    const Matrix sum =
        weight.transposed ? Matrix{scratch + tokens_size, panel.columns} : in_place;
    const auto first = plan.first_of_expert[panel.expert];
    const auto last = plan.first_of_expert[panel.expert + 1];
    if (first == last) {
      fill_zero(panel.rows, panel.columns, sum);
    }
    for (auto t = first; t < last; ++t) {
      const RowTile& tile = plan.tiles[t];
      gather_columns(tile, row_token, panel, tokens);
      const Element* left =
          weight.left + tile.first_lane * weight.width + panel.row * tile.lanes;
      gemm(
          panel.rows,
          panel.columns,
          tile.lanes,
          {left, tile.lanes},
          {tokens, panel.columns},
          sum,
          t == first ? Store::overwrite : Store::add);
    }
    if (weight.transposed) {
      float* const to = gradient + panel.column * weight.width + panel.row;
      transpose({sum.data, sum.stride}, panel.rows, panel.columns, {to, weight.width});
    }
  });
}

} // namespace

void weight_gradients(
    const RowTiles& plan,
    const int32_t* row_token,
    const WeightGradient<float>& up,
    const WeightGradient<float>& down) {
  sum_panels(plan, row_token, up, down);
}

void weight_gradients(
    const RowTiles& plan,
    const int32_t* row_token,
    const WeightGradient<uint16_t>& up,
    const WeightGradient<uint16_t>& down) {
  sum_panels(plan, row_token, up, down);
}

} // namespace moe::cpu
