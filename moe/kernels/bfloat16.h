#pragma once

#include <bit>
#include <cstdint>

namespace moe {

/// The upper half of a float32, rounded to nearest even; NaN stays NaN. Inline by force, so
/// that loops over it are compiled for the instruction set of the function that calls it.
[[gnu::always_inline]] inline uint16_t to_bfloat16(float value) {
  const auto bits = std::bit_cast<uint32_t>(value);
  const uint32_t rounded = (bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40U;
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return static_cast<uint16_t>(is_nan ? quiet : rounded);
}

/// The float32 of which `half` is the upper half; inline by force as well.
[[gnu::always_inline]] inline float from_bfloat16(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << 16);
}

} // namespace moe
