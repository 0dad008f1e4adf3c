#pragma once

#include <cstdint>

// Private to moe/kernels; not installed.

namespace moe::cpu {

// Products of bfloat16 read the left factor row by row, as products of float32 do. Of the right
// factor they read two rows at a time, column by column, as the instructions want them:
//
//     pairs [depth / 2, columns, 2]   of a matrix [depth, columns]; `depth` is even

/// to[i] = from[i], rounded to nearest even.
void round_row(const float* from, int64_t count, uint16_t* to);

/// to[i] = from[i].
void widen_row(const uint16_t* from, int64_t count, float* to);

/// A matrix [depth, columns], contiguous, rounded into pairs; an odd last row is paired with
/// zeros.
void round_to_pairs(const float* from, int64_t depth, int64_t columns, uint16_t* pairs);

/// The same of two rows; null stands for a second row of zeros.
void round_to_pair(const float* first, const float* second, int64_t columns, uint16_t* pair);

/// Two rows back from their pairs, `second` behind `first`.
void widen_pair(const uint16_t* pair, int64_t columns, float* first, float* second);

} // namespace moe::cpu
