#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "moe/kernels/cpu_row_tiles.h"

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// Where a tile has rows of transposed weights written.
template <typename Element>
struct TransposeSpace {
  Element* place; ///< what products read
  float* spare;   ///< to round from; unused in float32
};

/// Weights [E, rows, columns] as products read them that need each expert's transposed,
/// [columns, rows]. `Element` is float, or uint16_t for bfloat16.
///
/// An expert of many tiles is transposed once, on all threads. Weights of the others are
/// transposed by the tiles, some rows at a time, and used while they are in the second-level
/// cache: with many experts, writing all weights and reading them again took a tenth of the
/// block's time.
template <typename Element>
class TransposedWeights {
 public:
  /// `weights` is not kept alive.
  TransposedWeights(const at::Tensor& weights, const RowTiles& plan);

  /// Rows `first` to `first + count` of an expert's transposed weights, [count, rows]: where
  /// they lie, or written into `space`.
  const Element* rows(
      int64_t expert, int64_t first, int64_t count, TransposeSpace<Element> space) const;

 private:
  void transpose_rows_of(
      int64_t expert, int64_t first, int64_t count, TransposeSpace<Element> space) const;

  const float* weights_;
  int64_t rows_;
  int64_t columns_;
  std::vector<const Element*> transposed_; ///< by expert; null: by the tiles
  at::Tensor storage_;
};

} // namespace moe::cpu
