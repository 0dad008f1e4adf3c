#pragma once

#include <ATen/ATen.h>

#include "moe/kernels/cpu_row_tiles.h"
#include "moe/kernels/dispatch.h"

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// The tokens' vectors of a tile's rows, transposed: tokens [T, width] -> out [width, lanes];
/// zeros in the lanes past the last row.
void gather_transposed(
    const RowTile& tile,
    const int32_t* row_token,
    const float* tokens,
    int64_t width,
    float* out);

/// The same rounded to bfloat16, in pairs (cpu_bfloat16.h): out [width / 2, lanes, 2].
void gather_transposed(
    const RowTile& tile,
    const int32_t* row_token,
    const float* tokens,
    int64_t width,
    uint16_t* out);

/// The weights of a tile's rows: row_weight [N] -> out [lanes]; zeros past the last row.
void gather_weights(const RowTile& tile, const float* row_weight, float* out);

/// Adds up the rows of each token, experts ascending: results [N, D] -> [T, D].
at::Tensor combine(const at::Tensor& results, const at::Tensor& token_rows);

} // namespace moe::cpu
