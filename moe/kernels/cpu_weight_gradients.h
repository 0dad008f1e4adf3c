#pragma once

#include "moe/kernels/cpu_row_tiles.h"

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// A sum of outer products over the rows of each expert:
///
///     gradient[e] [width, dim] = sum over tiles of e: left^T [width, lanes] · right [lanes,
///     dim]
///
/// where the rows of `right` are those of the tile's tokens. `Element` is what the products
/// read: float, or uint16_t for bfloat16.
template <typename Element>
struct WeightGradient {
  const Element* left; ///< the tiles one after the other, each [width, lanes]
  const float* tokens; ///< [T, dim]
  int64_t width;
  int64_t dim;
  float* gradient; ///< [E, width, dim]; [E, dim, width] if transposed. Null: not asked for
  bool transposed;
};

/// Computes both. A task owns a panel of one expert's gradient and walks the expert's tiles in
/// order, so all threads are busy even when all rows belong to one expert, and the bits do not
/// depend on how many there are. An expert without rows gets zeros.
void weight_gradients(
    const RowTiles& plan,
    const int32_t* row_token,
    const WeightGradient<float>& up,
    const WeightGradient<float>& down);
void weight_gradients(
    const RowTiles& plan,
    const int32_t* row_token,
    const WeightGradient<uint16_t>& up,
    const WeightGradient<uint16_t>& down);

} // namespace moe::cpu
