#include "moe/checkpoint/mxfp4.h"

#include <array>
#include <vector>

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE(
    "decode_mxfp4: every code, low half first, times two to the exponent", "[checkpoint]") {
  std::vector<std::byte> blocks;
  for (int block = 0; block < 2; ++block) {
    for (int i = 0; i < 16; ++i) {
      // Codes 0 to 15 twice: i in the low half, 15 - i in the high half.
      blocks.push_back(static_cast<std::byte>(i | ((15 - i) << 4)));
    }
  }
  const std::array<std::byte, 2> exponents{std::byte{127}, std::byte{125}};
  std::vector<float> values(64);
  decode_mxfp4(blocks, exponents, values);
  const std::array<float, 8> magnitudes{0.0F, 0.5F, 1.0F, 1.5F, 2.0F, 3.0F, 4.0F, 6.0F};
  const auto expected = [&](int code) {
    const float magnitude = magnitudes.at(static_cast<size_t>(code % 8));
    return code < 8 ? magnitude : -magnitude;
  };
  for (int i = 0; i < 16; ++i) {
    const auto at = static_cast<size_t>(2 * i);
    CHECK(values[at] == expected(i));
    CHECK(values[at + 1] == expected(15 - i));
    CHECK(values[32 + at] == expected(i) / 4.0F);
    CHECK(values[32 + at + 1] == expected(15 - i) / 4.0F);
  }
}

TEST_CASE("decode_mxfp4: sizes that do not fit are refused", "[checkpoint]") {
  std::vector<std::byte> blocks(16);
  std::vector<std::byte> exponents(1);
  std::vector<float> values(32);
  CHECK_NOTHROW(decode_mxfp4(blocks, exponents, values));
  values.resize(31);
  CHECK_THROWS_AS(decode_mxfp4(blocks, exponents, values), Error);
  values.resize(32);
  blocks.resize(15);
  CHECK_THROWS_AS(decode_mxfp4(blocks, exponents, values), Error);
}
