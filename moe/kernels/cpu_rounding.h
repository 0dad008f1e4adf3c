#pragma once

#include "moe/kernels/cpu_bfloat16.h"

// Private to moe/kernels/cpu_*.cpp; not installed.
//
// Everything between two products is computed in float32. Where the products take bfloat16, it
// is computed in a spare place and rounded into the operand's; where they take float32, it is
// computed in place, and nothing of this costs anything.

namespace moe::cpu {

/// Where to compute what `place` will hold; `place` may be null.
inline float* place_to_compute(float* place, float* spare) {
  return place != nullptr ? place : spare;
}
inline float* place_to_compute(uint16_t* /*place*/, float* spare) {
  return spare;
}

/// Puts what was computed there into `place`, row by row.
inline void put_rows(const float* /*computed*/, int64_t /*count*/, float* /*place*/) {}
inline void put_rows(const float* computed, int64_t count, uint16_t* place) {
  if (place != nullptr) {
    round_row(computed, count, place);
  }
}

/// Puts it there as the right factor of a product: a matrix [depth, columns].
inline void put_factor(
    const float* /*computed*/, int64_t /*depth*/, int64_t /*columns*/, float* /*place*/) {}
inline void put_factor(const float* computed, int64_t depth, int64_t columns, uint16_t* place) {
  round_to_pairs(computed, depth, columns, place);
}

/// The numbers in `place` as float32: there, or in `spare`.
inline const float* as_float(const float* place, int64_t /*count*/, float* /*spare*/) {
  return place;
}
inline const float* as_float(const uint16_t* place, int64_t count, float* spare) {
  widen_row(place, count, spare);
  return spare;
}

} // namespace moe::cpu
