#pragma once

#include <cstdint>

#include "moe/kernels/cpu_gemm.h"

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// out[column][i] = rows[i][column]: transposes `num_rows` rows of `width` that lie anywhere
/// into out [width, num_rows]. It moves bits, so pairs of bfloat16 will do as well as floats.
void transpose_rows(const float* const* rows, int64_t num_rows, int64_t width, Matrix out);

/// The same for the rows of a matrix: in [num_rows, width] -> out [width, num_rows].
void transpose(ConstMatrix in, int64_t num_rows, int64_t width, Matrix out);

} // namespace moe::cpu
