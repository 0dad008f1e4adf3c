#include "moe/layers/top_k_router.h"

#include <ATen/autocast_mode.h>
#include <torch/nn/modules/container/any.h>

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
    options.form().normalize_weights = false;
    options.form().routed_scaling_factor = 2.5;
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{1.0, 0.75}, {1.25, 0.625}}), 1e-6));
  }
  SECTION("scaled after they are renormalised") {
    options.form().routed_scaling_factor = 2.0;
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
    options.form({.normalize_weights = false, .score = RouterScore::sigmoid});
    const auto routing = identity_router(options)(logits);
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 1}})));
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{three, one}}), 1e-6));
  }
  SECTION("sigmoid of logits that are so large that it cannot tell them apart") {
    options.form().score = RouterScore::sigmoid;
    const auto routing = identity_router(options)(logits * 100.0);
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 1}})));
  }
  SECTION("the norm of order 2 instead of the sum") {
    options.form().score = RouterScore::sigmoid;
    options.form().normalize_power = 2.0;
    const auto routing = identity_router(options)(logits);
    const double norm = std::sqrt(one * one + three * three);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{three / norm, one / norm}}), 1e-6));
  }
  SECTION("a sum of at least 4") {
    options.form().score = RouterScore::sigmoid;
    options.form().normalize_minimum = 4.0;
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{three / 4, one / 4}}), 1e-6));
  }
  SECTION("bent logits") {
    options.form().logit_cap = 2.0;
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.logits, AllClose(torch::tanh(logits / 2.0) * 2.0, 1e-6));
  }
  SECTION("a learned bias of the logits") {
    options.form().bias = true;
    auto router = identity_router(options);
    const torch::NoGradGuard no_grad;
    router->bias.copy_(torch::tensor({5.0, 0.0, 0.0, 0.0}));
    const auto routing = router(logits);
    CHECK(torch::equal(routing.experts, torch::tensor({{0, 3}})));
    CHECK_THAT(routing.logits[0][0], AllClose(torch::tensor(5.0), 1e-6));
  }
}

TEST_CASE("TopKRouter: a selection bias chooses but does not weigh", "[layers]") {
  const auto logits = torch::tensor({{0.0, 1.0, -1.0, 3.0}});
  auto router = identity_router(TopKRouterOptions(4, 4).experts_per_token(2).form(
      {.normalize_weights = false, .score = RouterScore::sigmoid, .selection_bias = true}));
  router->selection_bias.copy_(torch::tensor({0.0, 0.0, 2.0, 0.0}));
  const auto routing = router(logits);
  CHECK(torch::equal(routing.experts, torch::tensor({{2, 3}})));
  CHECK_THAT(routing.weights, AllClose(torch::sigmoid(torch::tensor({{-1.0, 3.0}})), 1e-6));
  CHECK(router->parameters().size() == 1);
}

TEST_CASE("TopKRouter: a selection bias keeps float32 in a narrower module", "[layers]") {
  TopKRouter router(TopKRouterOptions(4, 4).form({.selection_bias = true}));
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
  auto options = TopKRouterOptions(6, 6).experts_per_token(2).form(
      {.score = RouterScore::sigmoid, .groups = 3, .groups_kept = 1});
  options.form().selection = RouterSelection::groups_by_max;
  CHECK(torch::equal(identity_router(options)(logits).experts, torch::tensor({{2, 3}})));
  options.form().selection = RouterSelection::groups_by_top2;
  CHECK(torch::equal(identity_router(options)(logits).experts, torch::tensor({{4, 5}})));
  options.form().groups_kept = 2;
  // The first group's sum is above the second's, so the highest score stays out.
  CHECK(torch::equal(identity_router(options)(logits).experts, torch::tensor({{4, 5}})));
  options.form().groups_kept = 1;
  REQUIRE_THROWS_WITH(
      TopKRouter(options.experts_per_token(3)), ContainsSubstring("experts_per_token (3)"));
}

TEST_CASE("TopKRouter: sparsemixer weighs each expert among those near it", "[layers]") {
  // With a jitter of 0.1, logits within a fifth of the best one count.
  const auto logits = torch::tensor({{10.0, 9.0, 7.5, -3.0}});
  auto router = identity_router(TopKRouterOptions(4, 4).experts_per_token(2).form(
      {.weighting = RouterWeighting::sparsemixer, .sparsemixer_jitter = 0.1}));
  router->eval();
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
  TopKRouter router(TopKRouterOptions(5, 6).experts_per_token(3).initializer_range(1.0).form(
      {.normalize_weights = normalize}));
  router->to(torch::kFloat64);
  const auto input = torch::randn({4, 5}, torch::kFloat64).requires_grad_();
  const auto factor = torch::randn({4, 3}, torch::kFloat64);
  const auto function = [&] { return (router(input).weights * factor).sum(); };
  CHECK(gradient_error(function, {input, router->weight}) < 1e-6);
}

TEST_CASE("TopKRouter: every score by its definition", "[layers]") {
  const auto logits = torch::tensor({{0.0, 1.0, -1.0, 3.0}});
  auto options =
      TopKRouterOptions(4, 4).experts_per_token(2).form({.normalize_weights = false});
  SECTION("sqrt_softplus") {
    options.form().score = RouterScore::sqrt_softplus;
    const auto routing = identity_router(options)(logits);
    const auto expected = torch::tensor(
        {{std::sqrt(std::log1p(std::exp(3.0))), std::sqrt(std::log1p(std::exp(1.0)))}});
    CHECK_THAT(routing.weights, AllClose(expected, 1e-6));
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 1}})));
  }
  SECTION("sqrt_softplus where it is nearly 0") {
    options.form().score = RouterScore::sqrt_softplus;
    auto router = identity_router(options);
    const auto input = (logits - 200.0).requires_grad_();
    const auto routing = router(input);
    CHECK(torch::equal(routing.experts, torch::tensor({{3, 1}})));
    routing.weights.sum().backward();
    CHECK(input.grad().isfinite().all().item<bool>());
  }
  SECTION("identity") {
    options.form().score = RouterScore::identity;
    const auto routing = identity_router(options)(logits);
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{3.0, 1.0}}), 1e-6));
  }
  SECTION("the softmax of the chosen logits, whatever the scores") {
    options.form().score =
        GENERATE(RouterScore::identity, RouterScore::sigmoid, RouterScore::softmax);
    options.form().weighting = RouterWeighting::softmax;
    const auto routing = identity_router(options)(logits);
    const double first = 1.0 / (1.0 + std::exp(-2.0));
    CHECK_THAT(routing.weights, AllClose(torch::tensor({{first, 1.0 - first}}), 1e-6));
  }
}

TEST_CASE("TopKRouter: the cosine gate divides cosines by its temperature", "[layers]") {
  torch::manual_seed(0);
  const auto projected = GENERATE(false, true);
  TopKRouter router(TopKRouterOptions(6, 4).form(
      {.gate = RouterGate::cosine,
       .cosine_dim = projected ? 3 : 0,
       .cosine_temperature = 0.25}));
  const auto input = torch::randn({5, 6});
  const auto logits = router(input).logits;
  for (int64_t t = 0; t < 5; ++t) {
    for (int64_t e = 0; e < 4; ++e) {
      const auto x = projected ? torch::mv(router->projection, input[t]) : input[t];
      const auto w = router->weight[e];
      const double cosine =
          (x * w).sum().item<double>() / (x.norm().item<double>() * w.norm().item<double>());
      CHECK_THAT(logits[t][e].item<double>(), WithinAbs(cosine / 0.25, 1e-5));
    }
  }
  // The length of the input does not matter, and the temperature stays above 0.01.
  CHECK_THAT(router(input * 100.0).logits, AllClose(logits, 1e-5));
  const torch::NoGradGuard no_grad;
  router->log_scale.fill_(50.0);
  CHECK_THAT(router(input).logits, AllClose(logits * 0.25 * 100.0, 1e-5));
}

TEST_CASE("TopKRouter: jitter multiplies its input, in training only", "[layers]") {
  torch::manual_seed(0);
  auto router = identity_router(TopKRouterOptions(4, 4).form({.jitter = 0.1}));
  const auto input = torch::rand({2000, 4}) + 1.0;
  const auto ratio = router(input).logits / input;
  CHECK(ratio.min().item<double>() >= 0.9 - 1e-6);
  CHECK(ratio.max().item<double>() <= 1.1 + 1e-6);
  CHECK_THAT(ratio.mean().item<double>(), WithinAbs(1.0, 0.005));
  CHECK_THAT(ratio.std().item<double>(), WithinRel(0.2 / std::sqrt(12.0), 0.05));
  torch::manual_seed(7);
  const auto first = router(input).logits;
  torch::manual_seed(7);
  CHECK_THAT(router(input).logits, SameBits(first));
  router->eval();
  CHECK_THAT(router(input).logits, AllClose(input, 1e-6));
}

TEST_CASE("TopKRouter: learned noise has the width that its weights say", "[layers]") {
  torch::manual_seed(0);
  auto router = identity_router(TopKRouterOptions(4, 4).form({.noise = RouterNoise::learned}));
  const auto input = torch::ones({4000, 4});
  {
    const torch::NoGradGuard no_grad;
    router->noise_weight.copy_(torch::tensor({-9.0, -1.0, 0.0, 1.0}).unsqueeze(1) / 4.0);
  }
  const auto noise = router(input).logits - input;
  for (int64_t e = 0; e < 4; ++e) {
    const double width = std::log1p(std::exp(router->noise_weight[e].sum().item<double>()));
    CHECK_THAT(noise.select(1, e).mean().item<double>(), WithinAbs(0.0, width / 15));
    CHECK_THAT(noise.select(1, e).std().item<double>(), WithinRel(width, 0.05));
  }
  router->eval();
  CHECK_THAT(router(input).logits, SameBits(input));
}

TEST_CASE("TopKRouter: noise of no width is top_k", "[layers]") {
  torch::manual_seed(0);
  auto noisy = identity_router(TopKRouterOptions(5, 5).form({.noise = RouterNoise::learned}));
  {
    const torch::NoGradGuard no_grad;
    noisy->noise_weight.fill_(-1000.0);
  }
  const auto input = torch::rand({20, 5}) + 1.0;
  const auto expected = identity_router(TopKRouterOptions(5, 5))(input);
  const auto routing = noisy(input);
  CHECK(torch::equal(routing.experts, expected.experts));
  CHECK_THAT(routing.weights, SameBits(expected.weights));
}

TEST_CASE("TopKRouter: capacity drops in training only", "[layers]") {
  // All four tokens prefer expert 0, which has room for ceil(1.0 * 4 / 2) = 2.
  const auto logits = torch::tensor({{2.0, 0.0}, {3.0, 0.0}, {4.0, 0.0}, {1.0, 0.0}});
  auto router = identity_router(
      TopKRouterOptions(2, 2).experts_per_token(1).form({.capacity_factor = 1.0}));
  const auto routing = router(logits);
  CHECK(torch::equal(routing.kept, torch::tensor({{true}, {true}, {false}, {false}})));
  CHECK(dropped_rows(routing).item<int64_t>() == 2);
  CHECK(torch::equal(chosen_counts(routing), torch::tensor({4, 0})));
  auto by_score = identity_router(TopKRouterOptions(2, 2).experts_per_token(1).form(
      {.capacity_factor = 1.0, .capacity_drop = CapacityDrop::score}));
  CHECK(torch::equal(by_score(logits).kept, torch::tensor({{false}, {true}, {true}, {false}})));
  router->eval();
  CHECK_FALSE(router(logits).kept.defined());
  // Chosen tokens are weighted as without a capacity.
  CHECK_THAT(router(logits).weights, SameBits(routing.weights));
}

TEST_CASE("TopKRouter: experts that choose weigh the tokens that they chose", "[layers]") {
  torch::manual_seed(0);
  const bool normalize = GENERATE(false, true);
  auto router = identity_router(TopKRouterOptions(4, 4).experts_per_token(1).form(
      {.normalize_weights = normalize, .selection = RouterSelection::expert_choice}));
  const auto routing = router(torch::randn({6, 4}));
  CHECK(torch::equal(expert_counts(routing), torch::tensor({2, 2, 2, 2})));
  CHECK(dropped_rows(routing).item<int64_t>() == 0);
  for (int64_t t = 0; t < 6; ++t) {
    double sum = 0.0;
    for (int64_t e = 0; e < 4; ++e) {
      CHECK(routing.experts[t][e].item<int64_t>() == e);
      sum += routing.kept[t][e].item<bool>() ? routing.scores[t][e].item<double>() : 0.0;
    }
    for (int64_t e = 0; e < 4; ++e) {
      const double score =
          routing.kept[t][e].item<bool>() ? routing.scores[t][e].item<double>() : 0.0;
      const double expected = score == 0.0 || !normalize ? score : score / sum;
      CHECK_THAT(routing.weights[t][e].item<double>(), WithinAbs(expected, 1e-6));
    }
  }
}

TEST_CASE("TopKRouter: the gradients of every method are right", "[layers]") {
  auto options = TopKRouterOptions(5, 6).experts_per_token(3).initializer_range(1.0);
  SECTION("sqrt_softplus") {
    options.form().score = RouterScore::sqrt_softplus;
  }
  SECTION("identity, softmax of the chosen") {
    options.form().score = RouterScore::identity;
    options.form().weighting = RouterWeighting::softmax;
  }
  SECTION("cosine with a projection") {
    options.form().gate = RouterGate::cosine;
    options.form().cosine_dim = 4;
    options.form().bias = true;
  }
  SECTION("learned noise and jitter") {
    options.form().noise = RouterNoise::learned;
    options.form().jitter = 0.1;
  }
  SECTION("sinkhorn") {
    options.form().selection = RouterSelection::sinkhorn;
  }
  SECTION("hash") {
    options.form().selection = RouterSelection::hash;
  }
  SECTION("expert choice") {
    options.form().selection = RouterSelection::expert_choice;
  }
  torch::manual_seed(0);
  TopKRouter router(options);
  router->to(torch::kFloat64);
  const auto input = torch::randn({4, 5}, torch::kFloat64).requires_grad_();
  const auto ids = torch::tensor({3, 1, 4, 1}, torch::kInt64);
  const auto factor = torch::randn({4, 6}, torch::kFloat64);
  const auto function = [&] {
    torch::manual_seed(1);
    const auto weights = router(input, ids).weights;
    return (weights * factor.slice(1, 0, weights.size(1))).sum();
  };
  auto inputs = router->parameters();
  inputs.push_back(input);
  CHECK(gradient_error(function, inputs) < 1e-6);
}

TEST_CASE("TopKRouter: is a LibTorch module", "[layers]") {
  const TopKRouter router(TopKRouterOptions(6, 4).experts_per_token(3));
  check_module_contract(
      router, {"weight"}, "moe::TopKRouter(model_dim=6, num_experts=4, experts_per_token=3");
  const TopKRouter with_more(TopKRouterOptions(6, 4).form(
      {.gate = RouterGate::cosine,
       .cosine_dim = 3,
       .bias = true,
       .noise = RouterNoise::learned}));
  check_module_contract(
      with_more,
      {"weight", "bias", "projection", "log_scale", "noise_weight"},
      "moe::TopKRouter(model_dim=6");
}

TEST_CASE("TopKRouter: can be an AnyModule", "[layers]") {
  torch::nn::AnyModule module(TopKRouter(8, 4));
  CHECK(module.forward<Routing>(torch::randn({3, 8})).experts.size(0) == 3);
}

TEST_CASE("TopKRouter: takes no tokens at all", "[layers]") {
  const auto selection = GENERATE(
      RouterSelection::top_k, RouterSelection::groups_by_max, RouterSelection::groups_by_top2);
  TopKRouter router(
      TopKRouterOptions(8, 4).form({.selection = selection, .groups = 2, .groups_kept = 1}));
  CHECK(router(torch::zeros({0, 8})).weights.sizes() == torch::IntArrayRef({0, 2}));
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
      ContainsSubstring("experts_per_token: 5 is not in 1 to num_experts (4)"));
  REQUIRE_THROWS_WITH(TopKRouter(TopKRouterOptions(0, 4)), ContainsSubstring("model_dim (0)"));
  REQUIRE_THROWS_WITH(
      TopKRouter(TopKRouterOptions(8, 4).form({.jitter = 1.0})),
      ContainsSubstring("router_jitter: 1 is not possible; a number from 0 to below 1"));
  REQUIRE_THROWS_WITH(
      TopKRouter(TopKRouterOptions(8, 4).form({.capacity_factor = -1.0})),
      ContainsSubstring("capacity_factor: -1 "));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  const TopKRouterOptions plain(8, 4);
  const auto refuses = [](TopKRouterOptions options, const std::string& name) {
    REQUIRE_THROWS_WITH(TopKRouter(options), ContainsSubstring(name));
  };
  for (const double value : {nan, infinity, -1.0}) {
    CAPTURE(value);
    refuses(TopKRouterOptions(plain).form({.normalize_power = value}), "normalize_power: ");
    refuses(TopKRouterOptions(plain).form({.normalize_minimum = value}), "normalize_minimum: ");
    refuses(TopKRouterOptions(plain).form({.logit_cap = value}), "router_logit_cap: ");
    refuses(
        TopKRouterOptions(plain).form({.sparsemixer_jitter = value}), "sparsemixer_jitter: ");
    refuses(TopKRouterOptions(plain).initializer_range(value), "initializer_range (");
    refuses(
        TopKRouterOptions(plain).form({.cosine_temperature = value}),
        "router_cosine_temperature: ");
  }
  refuses(
      TopKRouterOptions(plain).form({.routed_scaling_factor = nan}), "routed_scaling_factor: ");
  refuses(TopKRouterOptions(plain).hash_seed(65536), "hash_seed (65536) must be in [0, 65535]");
  REQUIRE_THROWS_WITH(
      TopKRouter(TopKRouterOptions(8, 4).form({.score = RouterScore::identity})),
      ContainsSubstring("identity scores may sum to 0"));
  TopKRouter router(8, 4);
  REQUIRE_THROWS_WITH(
      router(torch::zeros({3, 7})),
      ContainsSubstring("[T, model_dim = 8]") && ContainsSubstring("[3, 7]"));
}
