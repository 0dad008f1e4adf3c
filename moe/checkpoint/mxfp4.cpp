#include "moe/checkpoint/mxfp4.h"

#include <array>
#include <cmath>

#include "moe/error.h"

namespace moe {
namespace {

constexpr size_t kBlockBytes = kMxfp4Block / 2;
constexpr int kExponentBias = 127;
// One sign, two exponent and one mantissa bit.
constexpr std::array<float, 16> kValues{
    0.0F,
    0.5F,
    1.0F,
    1.5F,
    2.0F,
    3.0F,
    4.0F,
    6.0F,
    -0.0F,
    -0.5F,
    -1.0F,
    -1.5F,
    -2.0F,
    -3.0F,
    -4.0F,
    -6.0F};

} // namespace

void decode_mxfp4(
    std::span<const std::byte> blocks,
    std::span<const std::byte> exponents,
    std::span<float> values) {
  check(
      blocks.size() == exponents.size() * kBlockBytes &&
          values.size() == exponents.size() * kMxfp4Block,
      "MXFP4: ",
      exponents.size(),
      " exponents do not fit ",
      blocks.size(),
      " bytes of blocks and ",
      values.size(),
      " values");
  float* value = values.data();
  for (size_t block = 0; block < exponents.size(); ++block) {
    const float scale =
        std::ldexp(1.0F, std::to_integer<int>(exponents[block]) - kExponentBias);
    for (size_t i = 0; i < kBlockBytes; ++i) {
      const auto pair = std::to_integer<unsigned>(blocks[block * kBlockBytes + i]);
      *value++ = kValues[pair & 15U] * scale;
      *value++ = kValues[pair >> 4U] * scale;
    }
  }
}

} // namespace moe
