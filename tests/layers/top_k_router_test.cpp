#include "moe/layers/top_k_router.h"

#include <ATen/autocast_mode.h>

#include <cmath>

#include "tests/support/gradient_check.h"
#include "tests/support/module_contract.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// A router whose logits are the input itself.
TopKRouter identity_router(const TopKRouterOptions& options) {
  TopKRouter router(options);
  const torch::NoGradGuard no_grad;
  router->weight.copy_(torch::eye(options.num_experts()));
  return router;
}

} // namespace

TEST_CASE("TopKRouter: chooses and weights by hand-checked numbers", "[layers]") {
  // Scores of the first token are 0.1, 0.2, 0.3, 0.4, of the second 0.5, 0.25, 0.125, 0.125.
  const auto logits = torch::tensor({{0.1, 0.2, 0.3, 0.4}, {0.4, 0.2, 0.1, 0.1}}).log();
  auto options = TopKRouterOptions(/*model_dim=*/4, /*num_experts=*/4).experts_per_token(2);
  SECTION("renormalised by default") {
    const auto routing = identity_router(options)(logits);
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 2}, {0, 1}})));
    CHECK_THAT(
        routing.weights,
        AllClose(torch::tensor({{4.0 / 7, 3.0 / 7}, {2.0 / 3, 1.0 / 3}}), 1e-6));
    CHECK_THAT(routing.logits, AllClose(logits, 1e-6));
    CHECK_THAT(
        routing.scores,
        AllClose(torch::tensor({{0.1, 0.2, 0.3, 0.4}, {0.5, 0.25, 0.125, 0.125}}), 1e-6));
  }
  SECTION("as they are, scaled") {
    options.normalize_weights(false).routed_scaling_factor(2.5);
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{1.0, 0.75}, {1.25, 0.625}}), 1e-6));
  }
  SECTION("scaled after they are renormalised") {
    options.routed_scaling_factor(2.0);
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.weights.sum(1), AllClose(torch::tensor({2.0, 2.0}), 1e-6));
  }
}

TEST_CASE("TopKRouter: scores, limits and divisors by hand-checked numbers", "[layers]") {
  const auto logits = torch::tensor({{0.0, 1.0, -1.0, 3.0}});
  auto options = TopKRouterOptions(/*model_dim=*/4, /*num_experts=*/4).experts_per_token(2);
  const double one = 1.0 / (1.0 + std::exp(-1.0));
  const double three = 1.0 / (1.0 + std::exp(-3.0));
  SECTION("sigmoid") {
    const auto routing =
        identity_router(options.score(RouterScore::sigmoid).normalize_weights(false))(logits);
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 1}})));
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{three, one}}), 1e-6));
  }
  SECTION("sigmoid of logits that are so large that it cannot tell them apart") {
    const auto routing = identity_router(options.score(RouterScore::sigmoid))(logits * 100.0);
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 1}})));
  }
  SECTION("the norm of order 2 instead of the sum") {
    options.score(RouterScore::sigmoid).normalize_power(2.0);
    const auto routing = identity_router(options)(logits);
    const double norm = std::sqrt(one * one + three * three);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{three / norm, one / norm}}), 1e-6));
  }
  SECTION("a sum of at least 4") {
    options.score(RouterScore::sigmoid).normalize_minimum(4.0);
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{three / 4, one / 4}}), 1e-6));
  }
  SECTION("bent logits") {
    const auto routing = identity_router(options.logit_cap(2.0))(logits);
    CHECK_THAT(routing.logits, AllClose(torch::tanh(logits / 2.0) * 2.0, 1e-6));
  }
  SECTION("a learned bias of the logits") {
    auto router = identity_router(options.bias(true));
    const torch::NoGradGuard no_grad;
    router->bias.copy_(torch::tensor({5.0, 0.0, 0.0, 0.0}));
    const auto routing = router(logits);
    CHECK(torch::equal(routing.experts, torch::tensor({{0, 3}})));
    CHECK_THAT(routing.logits[0][0], AllClose(torch::tensor(5.0), 1e-6));
  }
}

TEST_CASE("TopKRouter: a selection bias chooses but does not weigh", "[layers]") {
  const auto logits = torch::tensor({{0.0, 1.0, -1.0, 3.0}});
  auto router = identity_router(TopKRouterOptions(4, 4)
                                    .experts_per_token(2)
                                    .score(RouterScore::sigmoid)
                                    .normalize_weights(false)
                                    .has_selection_bias(true));
  router->selection_bias.copy_(torch::tensor({0.0, 0.0, 2.0, 0.0}));
  const auto routing = router(logits);
  CHECK(torch::equal(routing.experts, torch::tensor({{2, 3}})));
  CHECK_THAT(routing.weights, AllClose(torch::sigmoid(torch::tensor({{-1.0, 3.0}})), 1e-6));
  CHECK(router->parameters().size() == 1);
}

TEST_CASE("TopKRouter: a selection bias keeps float32 in a narrower module", "[layers]") {
  TopKRouter router(TopKRouterOptions(4, 4).has_selection_bias(true));
  const auto precise = torch::tensor({1.00001, 2.0, 3.0, 4.0});
  router->selection_bias.copy_(precise);
  router->to(torch::kBFloat16);
  CHECK(router->weight.scalar_type() == torch::kBFloat16);
  CHECK_THAT(router->selection_bias, SameBits(precise));
  CHECK_THAT(router->named_buffers()["selection_bias"], SameBits(precise));
  router->to(torch::kCPU, torch::kFloat64);
  CHECK(router->selection_bias.scalar_type() == torch::kFloat64);
}

TEST_CASE("TopKRouter: chooses within the best groups", "[layers]") {
  // Three groups of two. The second has the highest score, the third the highest sum.
  const auto logits = torch::tensor({{0.0, 0.1, 2.0, -9.0, 1.5, 1.4}});
  auto options = TopKRouterOptions(6, 6)
                     .experts_per_token(2)
                     .score(RouterScore::sigmoid)
                     .num_groups(3)
                     .groups_kept(1);
  options.selection(RouterSelection::groups_by_max);
  CHECK(torch::equal(identity_router(options)(logits).experts, torch::tensor({{2, 3}})));
  options.selection(RouterSelection::groups_by_top2);
  CHECK(torch::equal(identity_router(options)(logits).experts, torch::tensor({{4, 5}})));
  options.groups_kept(2);
  // The first group's sum is above the second's, so the highest score stays out.
  CHECK(torch::equal(identity_router(options)(logits).experts, torch::tensor({{4, 5}})));
  REQUIRE_THROWS_WITH(
      TopKRouter(TopKRouterOptions(options).groups_kept(1).experts_per_token(3)),
      ContainsSubstring("experts_per_token (3)"));
}

TEST_CASE("TopKRouter: sparsemixer weighs each expert among those near it", "[layers]") {
  // With a jitter of 0.1, logits within a fifth of the best one count.
  const auto logits = torch::tensor({{10.0, 9.0, 7.5, -3.0}});
  auto router = identity_router(TopKRouterOptions(4, 4)
                                    .experts_per_token(2)
                                    .weighting(RouterWeighting::sparsemixer)
                                    .sparsemixer_jitter(0.1));
  const auto routing = router(logits);
  CHECK(torch::equal(routing.experts, torch::tensor({{0, 1}})));
  // First 10 against 9 (7.5 is a quarter away), then 9 against 7.5.
  const double first = 1.0 / (1.0 + std::exp(-1.0));
  const double second = 1.0 / (1.0 + std::exp(-1.5));
  CHECK_THAT(routing.weights, AllClose(torch::tensor({{first, second}}), 1e-6));
}

TEST_CASE("TopKRouter: experts are distinct, in range and the best K", "[layers]") {
  torch::manual_seed(0);
  const auto k = GENERATE(1, 3, 7);
  TopKRouter router(TopKRouterOptions(8, 7).experts_per_token(k).initializer_range(1.0));
  const auto routing = router(torch::randn({50, 8}));
  REQUIRE(routing.experts.sizes() == torch::IntArrayRef({50, k}));
  const auto chosen =
      torch::zeros({50, 7}).scatter_add(1, routing.experts, torch::ones({50, k}));
  CHECK(chosen.max().item<double>() == 1.0);
  CHECK_THAT(routing.weights.sum(1), AllClose(torch::ones({50}), 1e-5));
  if (k < 7) {
    const auto worst_chosen = routing.scores.gather(1, routing.experts).amin(1);
    const auto best_left = routing.scores.masked_fill(chosen > 0, -1.0).amax(1);
    CHECK((worst_chosen >= best_left).all().item<bool>());
  }
}

TEST_CASE("TopKRouter: computes in float32 or wider", "[layers]") {
  torch::manual_seed(0);
  TopKRouter router(TopKRouterOptions(16, 4));
  const auto input = torch::randn({5, 16});
  SECTION("bfloat16 input") {
    CHECK(router(input.to(torch::kBFloat16)).logits.scalar_type() == torch::kFloat32);
  }
  SECTION("autocast") {
    const auto expected = router(input);
    at::autocast::set_autocast_enabled(at::kCPU, true);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
    const auto routing = router(input);
    at::autocast::set_autocast_enabled(at::kCPU, false);
    CHECK_THAT(routing.logits, SameBits(expected.logits));
    CHECK_THAT(routing.weights, SameBits(expected.weights));
  }
  SECTION("float64") {
    router->to(torch::kFloat64);
    CHECK(router(input.to(torch::kFloat64)).weights.scalar_type() == torch::kFloat64);
  }
}

TEST_CASE("TopKRouter: the gradient of the weights is right", "[layers]") {
  torch::manual_seed(0);
  const bool normalize = GENERATE(false, true);
  TopKRouter router(TopKRouterOptions(5, 6)
                        .experts_per_token(3)
                        .normalize_weights(normalize)
                        .initializer_range(1.0));
  router->to(torch::kFloat64);
  const auto input = torch::randn({4, 5}, torch::kFloat64).requires_grad_();
  const auto factor = torch::randn({4, 3}, torch::kFloat64);
  const auto function = [&] { return (router(input).weights * factor).sum(); };
  CHECK(gradient_error(function, {input, router->weight}) < 1e-6);
}

TEST_CASE("TopKRouter: is a LibTorch module", "[layers]") {
  const TopKRouter router(TopKRouterOptions(6, 4).experts_per_token(3));
  check_module_contract(
      router, {"weight"}, "moe::TopKRouter(model_dim=6, num_experts=4, experts_per_token=3");
}

TEST_CASE("TopKRouter: initial weights have the stated spread", "[layers]") {
  torch::manual_seed(0);
  const TopKRouter router(TopKRouterOptions(400, 100));
  CHECK_THAT(router->weight.std().item<double>(), WithinRel(0.02, 0.03));
  const TopKRouter wider(TopKRouterOptions(400, 100).initializer_range(0.5));
  CHECK_THAT(wider->weight.std().item<double>(), WithinRel(0.5, 0.03));
}

TEST_CASE("TopKRouter: impossible options and inputs are named", "[layers]") {
  REQUIRE_THROWS_WITH(
      TopKRouter(TopKRouterOptions(8, 4).experts_per_token(5)),
      ContainsSubstring("experts_per_token (5)") && ContainsSubstring("[1, num_experts = 4]"));
  REQUIRE_THROWS_WITH(TopKRouter(TopKRouterOptions(0, 4)), ContainsSubstring("model_dim (0)"));
  TopKRouter router(8, 4);
  REQUIRE_THROWS_WITH(
      router(torch::zeros({3, 7})),
      ContainsSubstring("[T, model_dim = 8]") && ContainsSubstring("[3, 7]"));
}
