#pragma once

#include <bit>
#include <cstdint>
#include <numbers>

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// e^x to about 1e-7 for x in [-87, 88], the value at the bound beyond; NaN stays NaN. Inline
/// by force, so that it is compiled for the instruction set of the function that calls it; the
/// compiler vectorises loops over it.
[[gnu::always_inline]] inline float exponential(float x) {
  x = x < -87.0F ? -87.0F : x;
  x = x > 88.0F ? 88.0F : x;
  // Adding 1.5 · 2^23 leaves x / ln 2, rounded, in the low bits.
  const float shifted = x * std::numbers::log2e_v<float> + 12582912.0F;
  const float whole = shifted - 12582912.0F;
  const float r = (x - whole * 0.693359375F) + whole * 2.12194440e-4F;
  float p = 1.9875691500e-4F;
  p = p * r + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * r * r + r + 1.0F;
  const auto exponent = (std::bit_cast<uint32_t>(shifted) << 23) + 0x3F800000U;
  return p * std::bit_cast<float>(exponent);
}

} // namespace moe::cpu
