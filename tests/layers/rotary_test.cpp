#include "moe/layers/rotary.h"

#include <cmath>

#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

constexpr int64_t kLength = 40;

RotaryForm form_of(RotaryScaling scaling) {
  RotaryForm form;
  form.dim = 8;
  form.theta = 100.0;
  form.scaling = scaling;
  form.factor = 4.0;
  form.original_length = 32;
  form.original_length = 32;
  return form;
}

RotaryTable table_of(const RotaryForm& form, int64_t length = kLength) {
  return rotary_table(0, length, form, torch::kFloat64);
}

// Angles per position of each pair, read off the second row of a table without a multiplier.
torch::Tensor angles(const RotaryForm& form, int64_t length = kLength) {
  const auto table = table_of(form, length);
  return torch::atan2(table.sin[1], table.cos[1]);
}

torch::Tensor plain_angles(double theta = 100.0) {
  return angles([&] {
    auto form = form_of(RotaryScaling::none);
    form.theta = theta;
    return form;
  }());
}

} // namespace

TEST_CASE("rotary_table: without scaling it is the table of its width", "[layers]") {
  const auto actual = rotary_table(3, 5, form_of(RotaryScaling::none), torch::kFloat64);
  const auto expected = rotary_table(3, 5, 8, 100.0, torch::kFloat64);
  CHECK_THAT(actual.cos, SameBits(expected.cos));
  CHECK_THAT(actual.sin, SameBits(expected.sin));
}

TEST_CASE("rotary_table: linear scaling divides every angle", "[layers]") {
  CHECK_THAT(angles(form_of(RotaryScaling::linear)), AllClose(plain_angles() / 4.0, 1e-12));
}

TEST_CASE("rotary_table: dynamic scaling begins beyond the trained length", "[layers]") {
  const auto form = form_of(RotaryScaling::dynamic);
  CHECK_THAT(angles(form, 32), AllClose(plain_angles(), 1e-12));
  const double theta = 100.0 * std::pow(4.0 * 40.0 / 32.0 - 3.0, 8.0 / 6.0);
  CHECK_THAT(angles(form, 40), AllClose(plain_angles(theta), 1e-12));
}

TEST_CASE("rotary_table: llama3 keeps short waves and stretches long ones", "[layers]") {
  auto form = form_of(RotaryScaling::llama3);
  form.low_frequency_factor = 0.5;
  form.high_frequency_factor = 2.0;
  const auto plain = plain_angles();
  const auto actual = angles(form);
  for (int64_t pair = 0; pair < 4; ++pair) {
    const double angle = plain[pair].item<double>();
    const double turns = 32.0 * angle / (2.0 * M_PI);
    const double kept = std::min(1.0, std::max(0.0, (turns - 0.5) / 1.5));
    CAPTURE(pair, turns);
    CHECK_THAT(
        actual[pair].item<double>(), WithinRel(angle * (kept + (1.0 - kept) / 4.0), 1e-9));
  }
  CHECK_THAT(actual[0], AllClose(plain[0], 1e-12));
  CHECK_THAT(actual[3], AllClose(plain[3] / 4.0, 1e-12));
}

TEST_CASE("rotary_table: yarn's ramp and the multiplier of cosines and sines", "[layers]") {
  auto form = form_of(RotaryScaling::yarn);
  form.beta_fast = 4.0;
  const auto table = table_of(form);
  // cos² + sin² is the square of the multiplier.
  const auto square = table.cos.square() + table.sin.square();
  const double multiplier = 0.1 * std::log(4.0) + 1.0;
  CHECK_THAT(square, AllClose(torch::full_like(square, multiplier * multiplier), 1e-12));
  const auto actual = angles(form);
  const auto plain = plain_angles();
  // Pairs that make 4 turns and 1 turn in 32 tokens, rounded outwards.
  const auto pair_of = [](double turns) {
    return 8.0 * std::log(32.0 / (turns * 2.0 * M_PI)) / (2.0 * std::log(100.0));
  };
  const double low = std::max(0.0, std::floor(pair_of(4.0)));
  const double high = std::ceil(pair_of(1.0));
  for (int64_t pair = 0; pair < 4; ++pair) {
    const double ramp =
        std::min(1.0, std::max(0.0, (static_cast<double>(pair) - low) / (high - low)));
    const double expected = plain[pair].item<double>() * (ramp / 4.0 + 1.0 - ramp);
    CHECK_THAT(actual[pair].item<double>(), WithinRel(expected, 1e-9));
  }
}

TEST_CASE("rotary_table: multipliers of yarn as published models have them", "[layers]") {
  auto form = form_of(RotaryScaling::yarn);
  const auto multiplier = [&] {
    const auto table = table_of(form);
    return table.cos[0][0].item<double>(); // the angle of position 0 is 0
  };
  form.factor = 32.0;
  CHECK_THAT(multiplier(), WithinAbs(1.3466, 1e-4)); // gpt-oss
  form.factor = 40.0;
  form.mscale = form.mscale_all_dim = 1.0;
  CHECK_THAT(multiplier(), WithinAbs(1.0, 1e-12)); // DeepSeek-V3
  const double growth = 0.1 * std::log(40.0) + 1.0;
  CHECK_THAT(yarn_score_multiplier(form), WithinRel(growth * growth, 1e-12));
  form.attention_factor = 1.25;
  CHECK_THAT(multiplier(), WithinAbs(1.25, 1e-12));
}

TEST_CASE("rotary_table: longrope has two lists of divisors", "[layers]") {
  auto form = form_of(RotaryScaling::longrope);
  form.short_factors = {1.0, 1.5, 2.0, 3.0};
  form.long_factors = {2.0, 4.0, 8.0, 16.0};
  const auto divided = [&](const std::vector<double>& by) {
    return plain_angles() / torch::tensor(by, torch::kFloat64);
  };
  CHECK_THAT(angles(form, 32), AllClose(divided(form.short_factors), 1e-12));
  CHECK_THAT(angles(form, 33), AllClose(divided(form.long_factors), 1e-12));
  const double multiplier = std::sqrt(1.0 + std::log(4.0) / std::log(32.0));
  CHECK_THAT(table_of(form).cos[0][0].item<double>(), WithinRel(multiplier, 1e-12));
  // With multipliers of its own it keeps to the short list.
  form.short_multiplier = 1.1;
  form.long_multiplier = 1.3;
  CHECK_THAT(angles(form, 33), AllClose(divided(form.short_factors), 1e-12));
  CHECK_THAT(table_of(form, 32).cos[0][0].item<double>(), WithinRel(1.1, 1e-12));
  CHECK_THAT(table_of(form, 33).cos[0][0].item<double>(), WithinRel(1.3, 1e-12));
}

TEST_CASE("apply_rotary: elements beyond the table stay as they are", "[layers]") {
  torch::manual_seed(0);
  const auto input = torch::randn({2, 5, 3, 10}, torch::kFloat64);
  const auto table = rotary_table(0, 5, 4, 100.0, torch::kFloat64);
  const auto turned = apply_rotary(input, table);
  CHECK_THAT(turned.slice(-1, 4), SameBits(input.slice(-1, 4)));
  CHECK_THAT(
      turned.slice(-1, 0, 4),
      AllClose(apply_rotary(input.slice(-1, 0, 4).contiguous(), table), 1e-12));
}
