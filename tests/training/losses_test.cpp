#include "moe/training/losses.h"

#include <cmath>

#include "moe/layers/top_k_router.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// A routing by hand: scores [T, E] and the experts that the tokens went to.
Routing routing_of(const torch::Tensor& scores, const torch::Tensor& experts) {
  return {scores.log(), scores, experts, torch::ones_like(experts, torch::kFloat32)};
}

} // namespace

TEST_CASE("load_balancing_loss: 1 at perfect balance, E for a single expert", "[training]") {
  const auto k = GENERATE(1, 2, 4);
  const auto uniform = torch::full({8, 4}, 0.25);
  // Expert e, e + 1, ... for token e: every expert gets 8 · k / 4 rows.
  const auto even = (torch::arange(8).unsqueeze(1) + torch::arange(k)).remainder(4);
  CHECK_THAT(
      load_balancing_loss(routing_of(uniform, even)).item<double>(), WithinAbs(1.0, 1e-6));

  const auto collapsed = torch::tensor({{1.0, 0.0, 0.0, 0.0}}).repeat({8, 1});
  const auto first = torch::zeros({8, 1}, torch::kInt64);
  CHECK_THAT(
      load_balancing_loss(routing_of(collapsed, first)).item<double>(), WithinAbs(4.0, 1e-6));
}

TEST_CASE("load_balancing_loss: by hand", "[training]") {
  const auto scores = torch::tensor({{0.7, 0.2, 0.1}, {0.5, 0.4, 0.1}});
  const auto experts = torch::tensor({{0, 1}, {0, 2}}, torch::kInt64);
  // Shares of rows 2/4, 1/4, 1/4; mean scores 0.6, 0.3, 0.1.
  const double expected = 3.0 * (0.5 * 0.6 + 0.25 * 0.3 + 0.25 * 0.1);
  const auto routing = routing_of(scores, experts);
  CHECK_THAT(load_balancing_loss(routing).item<double>(), WithinAbs(expected, 1e-6));
  const auto other = routing_of(torch::full({2, 3}, 1.0 / 3), experts);
  CHECK_THAT(
      load_balancing_loss(std::vector<Routing>{routing, other}).item<double>(),
      WithinAbs((expected + 1.0) / 2.0, 1e-6));
  CHECK_FALSE(load_balancing_loss(std::vector<Routing>{}).defined());
}

TEST_CASE("router_z_loss: by hand", "[training]") {
  Routing routing;
  routing.logits = torch::tensor({{0.0, 0.0}, {3.0, 3.0}}, torch::kFloat64);
  const double log2 = std::log(2.0);
  const double expected = (log2 * log2 + (3.0 + log2) * (3.0 + log2)) / 2.0;
  CHECK_THAT(router_z_loss(routing).item<double>(), WithinAbs(expected, 1e-12));
}

TEST_CASE("routing losses: gradients agree with central differences", "[training]") {
  torch::manual_seed(0);
  TopKRouter router(TopKRouterOptions(5, 6).experts_per_token(2).initializer_range(1.0));
  router->to(torch::kFloat64);
  const auto input = torch::randn({9, 5}, torch::kFloat64).requires_grad_();
  const auto function = [&] {
    const auto routing = router(input);
    return load_balancing_loss(routing) + router_z_loss(routing);
  };
  CHECK(gradient_error(function, {input, router->weight}) < 1e-6);
}

TEST_CASE("expert_counts: counts rows, of the tokens asked for", "[training]") {
  Routing routing;
  routing.logits = torch::zeros({3, 4});
  routing.experts = torch::tensor({{0, 1}, {1, 3}, {1, 0}}, torch::kInt64);
  CHECK(torch::equal(expert_counts(routing), torch::tensor({2, 3, 0, 1}, torch::kInt64)));
  const auto mask = torch::tensor({true, false, true});
  CHECK(torch::equal(expert_counts(routing, mask), torch::tensor({2, 2, 0, 0}, torch::kInt64)));
}
