#include "moe/kernels/cpu_row_tiles.h"

#include <algorithm>
#include <numeric>

namespace moe::cpu {
namespace {

// One AVX-512 register, two AVX2 registers.
constexpr int64_t kLaneUnit = 16;

int64_t ceil_div(int64_t value, int64_t divisor) {
  return (value + divisor - 1) / divisor;
}

} // namespace

RowTiles make_row_tiles(const int32_t* offsets, int64_t num_experts) {
  RowTiles result;
  result.first_of_expert.push_back(0);
  for (int64_t expert = 0; expert < num_experts; ++expert) {
    int64_t row = offsets[expert];
    const int64_t end = offsets[expert + 1];
    // As few tiles as possible, of about equal size: a small last tile would be slow.
    int64_t units = ceil_div(end - row, kLaneUnit);
    const int64_t lanes_of_all = units * kLaneUnit;
    const int64_t most = lanes_of_all <= kMaxLanes ? kMaxLanes : kUsualLanes;
    for (int64_t left = ceil_div(lanes_of_all, most); left > 0; --left) {
      const int64_t tile_units = ceil_div(units, left);
      const int64_t lanes = tile_units * kLaneUnit;
      const int64_t rows = std::min(lanes, end - row);
      result.tiles.push_back({expert, row, rows, lanes, result.num_lanes});
      result.num_lanes += lanes;
      row += rows;
      units -= tile_units;
    }
    result.first_of_expert.push_back(static_cast<int64_t>(result.tiles.size()));
  }
  result.largest_first.resize(result.tiles.size());
  std::iota(result.largest_first.begin(), result.largest_first.end(), 0);
  std::stable_sort(
      result.largest_first.begin(), result.largest_first.end(), [&](int64_t a, int64_t b) {
        return result.tiles[a].lanes > result.tiles[b].lanes;
      });
  return result;
}

} // namespace moe::cpu
