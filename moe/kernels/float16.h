#pragma once

#include <bit>
#include <cstdint>

namespace moe {

/// A number of 16 bits (IEEE 754 binary16): 11 significant bits, up to 65504.
struct Float16 {
  uint16_t bits;
};

/// The same number as float32.
inline float from_float16(Float16 number) {
  // A power of two moves the exponent from one bias to the other, of subnormal numbers too.
  const uint32_t magnitude = static_cast<uint32_t>(number.bits & 0x7FFFU) << 13;
  const float finite = std::bit_cast<float>(magnitude) * 0x1p112F;
  const bool is_finite = (number.bits & 0x7C00U) != 0x7C00U;
  const uint32_t bits = is_finite ? std::bit_cast<uint32_t>(finite) : magnitude | 0x7F800000U;
  return std::bit_cast<float>(bits | static_cast<uint32_t>(number.bits & 0x8000U) << 16);
}

} // namespace moe
