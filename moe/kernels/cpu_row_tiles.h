#pragma once

#include <cstdint>
#include <vector>

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// So many rows are computed together. A matrix of them, 256 deep, takes 128 KiB.
constexpr int64_t kUsualLanes = 128;
/// All rows of an expert that has no more: two small tiles would read its weights twice.
constexpr int64_t kMaxLanes = 160;

/// Some consecutive rows of one expert. Within a tile matrices are stored transposed,
/// [width, lanes], so that the rows lie in the lanes of vector registers. The lanes past the
/// last row hold zeros.
struct RowTile {
  int64_t expert;
  int64_t first_row;  ///< in the row list of the dispatch
  int64_t rows;       ///< at least 1
  int64_t lanes;      ///< `rows` rounded up to whole vector registers; at most kMaxLanes
  int64_t first_lane; ///< the sum of the lanes of the tiles before this one
};

/// All rows cut into tiles. It depends on the rows alone, not on threads or the processor, so
/// neither do the bits of what is computed by it.
struct RowTiles {
  std::vector<RowTile> tiles;           ///< experts ascending, rows ascending
  std::vector<int64_t> first_of_expert; ///< [E + 1]: expert e has the tiles from [e] to [e + 1]
  std::vector<int64_t> largest_first;   ///< tile numbers, equal sizes in ascending order
  int64_t num_lanes = 0;                ///< the lanes of all tiles together
};

/// `offsets` [E + 1]: expert e owns rows offsets[e] to offsets[e + 1].
RowTiles make_row_tiles(const int32_t* offsets, int64_t num_experts);

} // namespace moe::cpu
