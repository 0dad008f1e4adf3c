#include "moe/evaluation/co_activation.h"

#include <algorithm>
#include <cmath>

#include "tests/support/catch.h"
#include "tests/support/routing_records.h"

using namespace moe;
using namespace moe::testing;

namespace {

RecordedLayer layer_of(int64_t num_experts, int64_t per_token, std::vector<int32_t> experts) {
  RecordedLayer layer;
  layer.num_experts = num_experts;
  layer.experts_per_token = per_token;
  layer.experts = std::move(experts);
  return layer;
}

} // namespace

TEST_CASE("co_activation: by hand", "[evaluation]") {
  // 0 and 1 always together, 2 and 3 too.
  const auto result = co_activation(layer_of(4, 2, {0, 1, 1, 0, 2, 3, 3, 2, 0, 1, 2, 3}));
  CHECK(result.pairs == std::vector<int64_t>{0, 3, 0, 0, 3, 0, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0});
  // Each expert has 3 partners; by chance 1 with each of the 3 others.
  for (int64_t a = 0; a < 4; ++a) {
    for (int64_t b = 0; b < 4; ++b) {
      CHECK_THAT(
          result.expected[static_cast<size_t>(a * 4 + b)], WithinAbs(a == b ? 0.0 : 1.0, 1e-6));
    }
  }
  CHECK_THAT(result.log_ratio(0, 1), WithinAbs(std::log2(3.5 / 1.5), 1e-6));
  CHECK_THAT(result.log_ratio(0, 2), WithinAbs(std::log2(0.5 / 1.5), 1e-6));
}

TEST_CASE("co_activation: independent choices are near expectation", "[evaluation]") {
  // Expert 0 is in half of the tokens: the product of the shares would be far off.
  const auto record =
      routing_record(1, 1, 1, 20000, 6, [](int64_t, int64_t, std::mt19937_64& random) {
        std::vector<int32_t> experts = any_experts(6, 2, random);
        if (random() % 4 == 0 && experts[1] != 0) {
          experts[0] = 0;
        }
        return experts;
      });
  const auto result = co_activation(record.layers[0]);
  for (int64_t a = 0; a < 6; ++a) {
    double observed = 0.0;
    double expected = 0.0;
    for (int64_t b = 0; b < 6; ++b) {
      const auto place = static_cast<size_t>(a * 6 + b);
      observed += static_cast<double>(result.pairs[place]);
      expected += result.expected[place];
      CHECK(result.pairs[place] == result.pairs[static_cast<size_t>(b * 6 + a)]);
      if (a != b) {
        CHECK_THAT(result.log_ratio(a, b), WithinAbs(0.0, 0.15));
      }
    }
    CHECK_THAT(expected, WithinRel(observed, 1e-6));
  }
}

TEST_CASE(
    "co_activation: one expert per token, dead experts, one in every pair", "[evaluation]") {
  const auto single = co_activation(layer_of(3, 1, {0, 1, 2, 0}));
  CHECK(std::all_of(single.pairs.begin(), single.pairs.end(), [](auto n) { return n == 0; }));
  CHECK(single.log_ratio(0, 1) == 0.0);
  const auto dead = co_activation(layer_of(3, 2, {0, 1, 1, 0, 0, -1}));
  CHECK_THAT(dead.expected[1], WithinAbs(2.0, 1e-6));
  CHECK(dead.log_ratio(0, 2) == 0.0);
  const auto star = co_activation(layer_of(4, 2, {0, 1, 0, 2, 3, 0, 0, 1}));
  CHECK_THAT(star.expected[1], WithinAbs(2.0, 0.05));
  CHECK_THAT(star.expected[1 * 4 + 2], WithinAbs(0.0, 0.05));
}
