#include "moe/layers/router_methods.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("router methods: have the names of their enumerators", "[layers]") {
  CHECK(router_gate_from_name("cosine") == RouterGate::cosine);
  CHECK(router_score_from_name("sqrt_softplus") == RouterScore::sqrt_softplus);
  CHECK(router_noise_from_name("learned") == RouterNoise::learned);
  CHECK(router_selection_from_name("expert_choice") == RouterSelection::expert_choice);
  CHECK(router_weighting_from_name("softmax") == RouterWeighting::softmax);
  CHECK(capacity_drop_from_name("score") == CapacityDrop::score);
  REQUIRE_THROWS_WITH(
      router_score_from_name("tanh"),
      "router_score: 'tanh' is not possible; softmax, sigmoid, sqrt_softplus or identity");
  REQUIRE_THROWS_WITH(
      router_noise_from_name(""), "router_noise: '' is not possible; none or learned");
}

TEST_CASE("router methods: those that do not fit are refused with the reason", "[layers]") {
  RouterMethods methods;
  methods.num_experts = 8;
  methods.experts_per_token = 2;
  CHECK(router_conflict(methods).empty());
  const auto refused = [&](const char* text) {
    CHECK_THAT(router_conflict(methods), ContainsSubstring(text));
  };
  SECTION("scores that may sum to 0") {
    methods.score = RouterScore::identity;
    refused("normalize_weights");
    methods.weighting = RouterWeighting::softmax;
    CHECK(router_conflict(methods).empty());
  }
  SECTION("a bias where no score chooses") {
    methods.selection_bias = true;
    methods.selection = RouterSelection::hash;
    refused("router_selection_bias");
    methods.selection = RouterSelection::sinkhorn;
    refused("router_selection_bias");
  }
  SECTION("sparsemixer, which chooses by itself") {
    methods.weighting = RouterWeighting::sparsemixer;
    CHECK(router_conflict(methods).empty());
    methods.selection = RouterSelection::hash;
    refused("sparsemixer chooses by itself");
    methods.experts_per_token = 3;
    refused("experts_per_token: 3");
  }
  SECTION("experts that choose") {
    methods.selection = RouterSelection::expert_choice;
    CHECK(router_conflict(methods).empty());
    methods.capacity_factor = 1.0;
    refused("capacity_factor");
    methods.capacity_factor = 0.0;
    methods.weighting = RouterWeighting::softmax;
    refused("router_weighting");
  }
  SECTION("groups") {
    methods.selection = RouterSelection::groups_by_top2;
    methods.groups = 3;
    refused("router_groups: 3");
    methods.groups = 8;
    methods.groups_kept = 2;
    refused("no two experts");
    methods.groups_kept = 1;
    refused("router_groups_kept: 1");
  }
}

TEST_CASE("router methods: which ones see the future", "[layers]") {
  CHECK(sees_future(RouterSelection::expert_choice, 0.0, CapacityDrop::position));
  CHECK(sees_future(RouterSelection::sinkhorn, 0.0, CapacityDrop::position));
  CHECK(sees_future(RouterSelection::top_k, 1.0, CapacityDrop::score));
  CHECK_FALSE(sees_future(RouterSelection::top_k, 0.0, CapacityDrop::score));
  CHECK_FALSE(sees_future(RouterSelection::hash, 1.0, CapacityDrop::position));
}
