#include "moe/evaluation/routing_statistics.h"

#include <cmath>

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("layer_routing: by hand", "[evaluation]") {
  const auto routing = layer_routing(3, {50, 25, 25, 0});
  CHECK(routing.layer == 3);
  CHECK(routing.load == std::vector<double>{0.5, 0.25, 0.25, 0.0});
  CHECK_THAT(routing.max_violation, WithinAbs(1.0, 1e-12));
  // 0.5 ln 2 + 2 · 0.25 ln 4 = 1.5 ln 2, divided by ln 4.
  CHECK_THAT(routing.entropy, WithinAbs(0.75, 1e-12));
  CHECK_THAT(routing.dead, WithinAbs(0.25, 1e-12));
}

TEST_CASE("layer_routing: even, one expert, no rows, nearly dead", "[evaluation]") {
  CHECK_THAT(layer_routing(0, {7, 7, 7}).entropy, WithinAbs(1.0, 1e-12));
  CHECK_THAT(layer_routing(0, {7, 7, 7}).max_violation, WithinAbs(0.0, 1e-12));
  CHECK(layer_routing(0, {9}).entropy == 1.0);
  CHECK(layer_routing(0, {0, 0}).load == std::vector<double>{0.5, 0.5});
  CHECK(layer_routing(0, {0, 0}).dead == 0.0);
  // 1 % of the mean load of 1000 rows is 10 rows.
  CHECK(layer_routing(0, {1991, 9}).dead == 0.5);
  CHECK(layer_routing(0, {1989, 11}).dead == 0.0);
}
