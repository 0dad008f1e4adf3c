#include "moe/decoder/router_presets.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions eight_experts() {
  DecoderOptions options;
  options.vocab_size = 257;
  options.num_experts = 8;
  options.experts_per_token = 4;
  return options;
}

} // namespace

TEST_CASE("router presets: all are there, and all but expert-choice are valid", "[decoder]") {
  std::vector<std::string_view> names;
  for (const auto& preset : router_presets()) {
    CAPTURE(preset.name);
    names.push_back(preset.name);
    CHECK_FALSE(preset.summary.empty());
    const auto options = with_router_preset(eight_experts(), preset.name);
    if (preset.name == "expert-choice") {
      REQUIRE_THROWS_WITH(validate(options), ContainsSubstring("set router_sees_future"));
    } else {
      CHECK_NOTHROW(validate(options));
    }
  }
  CHECK(
      names == std::vector<std::string_view>{
                   "switch",
                   "gshard",
                   "mixtral",
                   "olmoe",
                   "deepseek-v2",
                   "deepseek-v3",
                   "gpt-oss",
                   "llama4",
                   "st-moe",
                   "expert-choice",
                   "dense"});
  REQUIRE_THROWS_WITH(
      find_router_preset("swich"), ContainsSubstring("'swich' is not one of switch, gshard"));
  REQUIRE_THROWS_WITH(with_router_preset(eight_experts(), ""), ContainsSubstring("router: ''"));
}

TEST_CASE("router presets: say what they are known for", "[decoder]") {
  const auto preset = [](const char* name) {
    return with_router_preset(eight_experts(), name);
  };
  CHECK(preset("switch").experts_per_token == 1);
  CHECK_FALSE(preset("switch").router.normalize_weights);
  CHECK(preset("switch").router.capacity_factor == 1.25);
  CHECK(preset("switch").router.jitter == 0.01);
  CHECK(preset("gshard").router.capacity_factor == 1.0);
  CHECK(preset("mixtral").experts_per_token == 2);
  CHECK(preset("olmoe").experts_per_token == 4);
  CHECK_FALSE(preset("olmoe").router.normalize_weights);
  CHECK(preset("deepseek-v2").router.selection == RouterSelection::groups_by_max);
  CHECK(preset("deepseek-v3").router.score == RouterScore::sigmoid);
  CHECK(preset("deepseek-v3").router.selection_bias);
  CHECK(preset("deepseek-v3").router.routed_scaling_factor == 2.5);
  CHECK(preset("gpt-oss").router.bias);
  CHECK(preset("llama4").router.weights_on_input);
  CHECK(preset("llama4").router.score == RouterScore::sigmoid);
  CHECK(preset("st-moe").router.capacity_factor == 1.25);
  CHECK(preset("expert-choice").router.selection == RouterSelection::expert_choice);
  CHECK(preset("dense").experts_per_token == 8);
  CHECK(find_router_preset("st-moe").router_z_weight == 0.001);
  CHECK_FALSE(find_router_preset("llama4").load_balancing_weight);
}

TEST_CASE("router presets: nothing of another way of routing is left", "[decoder]") {
  auto options = eight_experts();
  options.router.noise = RouterNoise::learned;
  options.router.gate = RouterGate::cosine;
  options.router.weighting = RouterWeighting::sparsemixer;
  options.router.logit_cap = 3.0;
  options.router.normalize_power = 2.0;
  options.router.capacity_factor = 7.0;
  options.router.weights_on_input = true;
  options.router.groups = 4;
  options.router.groups_kept = 2;
  options.model_dim = 64;
  auto expected = eight_experts();
  expected.model_dim = 64;
  expected.router.groups = 4;
  expected.router.groups_kept = 2;
  for (const auto& preset : router_presets()) {
    CAPTURE(preset.name);
    CHECK((
        with_router_preset(options, preset.name) == with_router_preset(expected, preset.name)));
  }
}
