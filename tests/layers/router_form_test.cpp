#include "moe/layers/router_form.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("RouterForm: enumerations have the names of their enumerators", "[layers]") {
  CHECK(enum_from_name<RouterGate>("router_gate", "cosine") == RouterGate::cosine);
  CHECK(enum_name(RouterScore::sqrt_softplus) == "sqrt_softplus");
  CHECK(enum_name(RouterNoise::learned) == "learned");
  CHECK(enum_name(RouterSelection::expert_choice) == "expert_choice");
  CHECK(enum_name(RouterWeighting::sparsemixer) == "sparsemixer");
  CHECK(enum_name(CapacityDrop::score) == "score");
  REQUIRE_THROWS_WITH(
      enum_from_name<RouterScore>("router_score", "tanh"),
      "router_score: 'tanh' is not possible; softmax, sigmoid, sqrt_softplus or identity");
  REQUIRE_THROWS_WITH(
      enum_from_name<RouterNoise>("router_noise", ""),
      "router_noise: '' is not possible; none or learned");
}

TEST_CASE("RouterForm: choices that do not fit are refused with the reason", "[layers]") {
  RouterForm form;
  int64_t experts_per_token = 2;
  const auto problem = [&] {
    return router_problem(form, /*num_experts=*/8, experts_per_token);
  };
  CHECK(problem().empty());
  const auto refused = [&](const char* text) {
    CHECK_THAT(problem(), ContainsSubstring(text));
  };
  SECTION("scores that may sum to 0") {
    form.score = RouterScore::identity;
    refused("normalize_weights");
    form.weighting = RouterWeighting::softmax;
    CHECK(problem().empty());
  }
  SECTION("a bias where no score chooses") {
    form.selection_bias = true;
    form.selection = RouterSelection::hash;
    refused("router_selection_bias");
    form.selection = RouterSelection::sinkhorn;
    refused("router_selection_bias");
  }
  SECTION("sparsemixer, which chooses by itself") {
    form.weighting = RouterWeighting::sparsemixer;
    CHECK(problem().empty());
    form.selection = RouterSelection::hash;
    refused("sparsemixer chooses by itself");
    experts_per_token = 3;
    refused("experts_per_token: 3");
  }
  SECTION("experts that choose") {
    form.selection = RouterSelection::expert_choice;
    CHECK(problem().empty());
    form.capacity_factor = 1.0;
    refused("capacity_factor");
    form.capacity_factor = 0.0;
    form.weighting = RouterWeighting::softmax;
    refused("router_weighting");
  }
  SECTION("groups") {
    form.selection = RouterSelection::groups_by_top2;
    form.groups = 3;
    refused("router_groups: 3");
    form.groups = 8;
    form.groups_kept = 2;
    refused("no two experts");
    form.groups_kept = 1;
    refused("router_groups_kept: 1");
  }
}

TEST_CASE("RouterForm: which ones see the future", "[layers]") {
  CHECK(depends_on_future({.selection = RouterSelection::expert_choice}));
  CHECK(depends_on_future({.selection = RouterSelection::sinkhorn}));
  CHECK(depends_on_future({.capacity_factor = 1.0, .capacity_drop = CapacityDrop::score}));
  CHECK_FALSE(depends_on_future({.capacity_drop = CapacityDrop::score}));
  CHECK_FALSE(depends_on_future({.selection = RouterSelection::hash, .capacity_factor = 1.0}));
}
