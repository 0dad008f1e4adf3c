#include "moe/evaluation/routing_counter.h"

#include <cmath>

#include "moe/libtorch.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

Routing by_hand() {
  Routing routing;
  routing.logits = torch::tensor({{0.0, 0.0, 0.0}, {std::log(8.0), 0.0, 0.0}, {0.0, 9.0, 9.0}});
  routing.scores = torch::softmax(routing.logits, 1);
  routing.experts = torch::tensor({{0, 1}, {0, 2}, {1, 2}});
  routing.weights = torch::full({3, 2}, 0.5);
  return routing;
}

} // namespace

TEST_CASE("RoutingCounter: loads and confidence by hand", "[evaluation]") {
  RoutingCounter counter;
  counter.add({by_hand()}, torch::tensor({true, true, false}));
  const auto masked = counter.statistics({4}).at(0);
  CHECK(masked.layer == 4);
  CHECK(masked.rows == 4);
  CHECK(masked.load == std::vector<double>{0.5, 0.25, 0.25});
  CHECK_THAT(masked.confidence, WithinAbs((1.0 / 3.0 + 0.8) / 2.0, 1e-6));
  CHECK(masked.dropped == 0.0);

  counter.add({by_hand()});
  const auto both = counter.statistics({4}).at(0);
  CHECK(both.rows == 10);
  CHECK(both.load == std::vector<double>{0.4, 0.3, 0.3});
  CHECK_THAT(both.confidence, WithinAbs((2.0 / 3.0 + 1.6 + 0.5) / 5.0, 1e-4));
}

TEST_CASE("RoutingCounter: dropped rows count as chosen", "[evaluation]") {
  auto routing = by_hand();
  routing.kept = torch::tensor({{true, true}, {false, true}, {true, false}});
  RoutingCounter counter;
  counter.add({routing});
  const auto all = counter.statistics({0}).at(0);
  CHECK(all.rows == 6);
  CHECK(all.load == std::vector<double>{2.0 / 6.0, 2.0 / 6.0, 2.0 / 6.0});
  CHECK_THAT(all.dropped, WithinAbs(2.0 / 6.0, 1e-12));
}

TEST_CASE(
    "RoutingCounter: confidence does not depend on what makes the scores", "[evaluation]") {
  auto sigmoid = by_hand();
  sigmoid.scores = torch::sigmoid(sigmoid.logits);
  RoutingCounter counter;
  counter.add({by_hand(), sigmoid});
  const auto layers = counter.statistics({0, 1});
  CHECK(layers[0].confidence == layers[1].confidence);
  // The odds of a sigmoid are the exponential of its logit.
  const auto odds = sigmoid.scores / (1.0 - sigmoid.scores);
  const auto share = (odds.amax(1) / odds.sum(1)).mean().item<double>();
  CHECK_THAT(layers[1].confidence, WithinAbs(share, 1e-4));
}

TEST_CASE("RoutingCounter: nothing added, nothing that counts", "[evaluation]") {
  RoutingCounter counter;
  CHECK(counter.statistics({}).empty());
  counter.add({by_hand()}, torch::zeros({3}, torch::kBool));
  const auto layer = counter.statistics({0}).at(0);
  CHECK(layer.rows == 0);
  CHECK(layer.confidence == 0.0);
  CHECK(layer.max_violation == 0.0);
}
