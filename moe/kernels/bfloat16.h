#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace moe {

/// The upper half of a float32, rounded to nearest even; NaN stays NaN.
inline uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  if (std::isnan(value)) {
    return static_cast<uint16_t>((bits >> 16) | 0x40U);
  }
  return static_cast<uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}

/// The float32 of which `half` is the upper half. Inline by force, so that loops over it are
/// compiled for the instruction set of the function that calls it.
[[gnu::always_inline]] inline float from_bfloat16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

} // namespace moe
