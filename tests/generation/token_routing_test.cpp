#include "moe/generation/token_routing.h"

#include "moe/layers/top_k_router.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"

namespace {

using namespace moe;

/// Router options whose logits are the input: the weight is the identity.
TopKRouterOptions identity_router(int64_t experts, int64_t chosen) {
  return TopKRouterOptions(/*model_dim=*/experts, experts).experts_per_token(chosen);
}

/// What TopKRouter chooses for each row of `logits` [T, E], and route_token.
void check_same_choice(const TopKRouterOptions& options, const torch::Tensor& logits) {
  torch::NoGradGuard no_grad;
  TopKRouter router(options);
  router->eval();
  router->weight.copy_(torch::eye(options.num_experts()));
  if (router->selection_bias.defined()) {
    router->selection_bias.normal_();
  }
  REQUIRE(can_route_token(options));
  const auto expected = router(logits);
  const float* const bias = router->selection_bias.defined()
                                ? router->selection_bias.const_data_ptr<float>()
                                : nullptr;
  TokenRouting routing;
  for (int64_t t = 0; t < logits.size(0); ++t) {
    route_token(options, logits[t].const_data_ptr<float>(), bias, routing);
    REQUIRE(static_cast<int64_t>(routing.chosen.size()) == options.experts_per_token());
    for (int64_t k = 0; k < options.experts_per_token(); ++k) {
      CAPTURE(t, k);
      CHECK(routing.chosen[k].expert == expected.experts[t][k].item<int64_t>());
      CHECK_THAT(
          routing.chosen[k].weight, WithinRel(expected.weights[t][k].item<float>(), 1e-5F));
    }
  }
}

} // namespace

TEST_CASE("route_token: the choice and the weights of TopKRouter", "[generation]") {
  torch::manual_seed(0);
  const auto logits = torch::randn({50, 12}) * 3;
  const auto score = GENERATE(
      RouterScore::softmax,
      RouterScore::sigmoid,
      RouterScore::sqrt_softplus,
      RouterScore::identity);
  const bool bias = GENERATE(false, true);
  CAPTURE(static_cast<int>(score), bias);
  auto options = identity_router(12, 3).form({.score = score, .selection_bias = bias});
  SECTION("scores as they are, scaled") {
    options.form().normalize_weights = false;
    options.form().routed_scaling_factor = 2.5;
  }
  SECTION("divided by their sum, or by more") {
    options.form().normalize_weights = score != RouterScore::identity;
    options.form().normalize_minimum = 1.2;
  }
  SECTION("softmax of the chosen") {
    options.form().weighting = RouterWeighting::softmax;
    options.form().routed_scaling_factor = 0.5;
  }
  SECTION("within groups") {
    options.form().selection =
        GENERATE(RouterSelection::groups_by_max, RouterSelection::groups_by_top2);
    options.form().groups = 4;
    options.form().groups_kept = 2;
    options.form().normalize_weights = false;
  }
  SECTION("all experts") {
    options.form().normalize_weights = false;
    options.experts_per_token(12);
  }
  check_same_choice(options, logits);
}

TEST_CASE("route_token: large logits are told apart, whatever their scores", "[generation]") {
  const auto logits = torch::tensor({{30.0F, 60.0F, 40.0F, 50.0F, -90.0F, 20.0F}});
  const auto score =
      GENERATE(RouterScore::softmax, RouterScore::sigmoid, RouterScore::sqrt_softplus);
  check_same_choice(
      identity_router(6, 2).form({.normalize_weights = false, .score = score}), logits);
}

TEST_CASE("can_route_token: not what needs more than the logits", "[generation]") {
  const auto plain = identity_router(4, 2);
  CHECK(can_route_token(plain));
  CHECK_FALSE(
      can_route_token(TopKRouterOptions(plain).form({.selection = RouterSelection::hash})));
  CHECK_FALSE(can_route_token(TopKRouterOptions(plain).form({.gate = RouterGate::cosine})));
  CHECK_FALSE(can_route_token(TopKRouterOptions(plain).form({.logit_cap = 3.0})));
  CHECK_FALSE(can_route_token(TopKRouterOptions(plain).form({.normalize_power = 2.0})));
  CHECK_FALSE(can_route_token(TopKRouterOptions(plain).form({.noise = RouterNoise::learned})));
  CHECK_FALSE(can_route_token(
      TopKRouterOptions(plain).form({.weighting = RouterWeighting::sparsemixer})));
}
