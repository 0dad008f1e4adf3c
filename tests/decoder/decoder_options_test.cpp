#include "moe/decoder/decoder_options.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions valid_options() {
  DecoderOptions options;
  options.vocab_size = 257;
  return options;
}

} // namespace

TEST_CASE("DecoderOptions: the defaults with a vocabulary are valid", "[decoder]") {
  CHECK_NOTHROW(validate(valid_options()));
}

TEST_CASE("DecoderOptions: impossible sizes are named with the allowed values", "[decoder]") {
  auto options = valid_options();
  SECTION("more experts per token than experts") {
    options.experts_per_token = 9;
    REQUIRE_THROWS_WITH(
        validate(options),
        ContainsSubstring("experts_per_token: 9") && ContainsSubstring("num_experts (8)"));
  }
  SECTION("heads that do not divide the width") {
    options.attention.num_heads = 3;
    REQUIRE_THROWS_WITH(
        validate(options), ContainsSubstring("num_heads: 3") && ContainsSubstring("256"));
  }
  SECTION("key heads that do not divide the query heads") {
    options.attention.num_kv_heads = 3;
    REQUIRE_THROWS_WITH(validate(options), ContainsSubstring("num_kv_heads: 3"));
  }
  SECTION("an odd head") {
    options.attention.head_dim = 33;
    REQUIRE_THROWS_WITH(validate(options), ContainsSubstring("head_dim: 33"));
  }
  SECTION("a dense layer that is not there") {
    options.dense_layers = {4};
    REQUIRE_THROWS_WITH(
        validate(options), ContainsSubstring("no layer 4") && ContainsSubstring("0 to 3"));
  }
}

TEST_CASE("DecoderOptions: combinations that no model can have are named", "[decoder]") {
  auto options = valid_options();
  const auto refuses = [&](const char* text) {
    REQUIRE_THROWS_WITH(validate(options), ContainsSubstring(text));
  };
  SECTION("a window and chunks") {
    options.attention.sliding_window = options.attention.chunk = 4;
    refuses("attention_chunk");
  }
  SECTION("groups that do not divide the experts") {
    options.router.selection = RouterSelection::groups_by_max;
    options.router.groups = 3;
    refuses("router_groups: 3");
  }
  SECTION("too few experts in the groups kept") {
    options.router.selection = RouterSelection::groups_by_max;
    options.router.groups = 8;
    refuses("router_groups_kept: 1");
  }
  SECTION("three experts by sparsemixer") {
    options.router.weighting = RouterWeighting::sparsemixer;
    options.experts_per_token = 3;
    refuses("experts_per_token: 3");
  }
  SECTION("routing that does not fit") {
    options.router.score = RouterScore::identity;
    refuses("normalize_weights: identity");
  }
  SECTION("jitter that could turn a sign") {
    options.router.jitter = 1.0;
    refuses("router_jitter: 1 is not possible");
  }
  SECTION("a negative capacity") {
    options.router.capacity_factor = -0.5;
    refuses("capacity_factor: -0.5");
  }
  SECTION("latent attention without a part that has no position") {
    options.attention.qk_norm = false;
    options.attention.key_value_latent_dim = 8;
    refuses("rotary_dim: 64");
  }
  SECTION("latent attention with a norm of heads") {
    options.attention.key_value_latent_dim = 8;
    options.rotary.dim = 8;
    refuses("qk_norm");
  }
  SECTION("a list that is too short") {
    options.layer_rope_theta = {1e4, 1e5};
    refuses("layer_rope_theta: 2 values for 4 layers");
  }
  SECTION("longrope without its divisors") {
    options.rotary.scaling = RotaryScaling::longrope;
    refuses("rope_short_factors");
  }
}

TEST_CASE("DecoderOptions: routing that sees the future must be asked for", "[decoder]") {
  auto options = valid_options();
  const char* reason = "";
  SECTION("experts that choose") {
    options.router.selection = RouterSelection::expert_choice;
    reason = "router_selection: expert_choice lets experts choose";
  }
  SECTION("balance over the batch") {
    options.router.selection = RouterSelection::sinkhorn;
    reason = "router_selection: sinkhorn balances";
  }
  SECTION("dropping by score") {
    options.router.capacity_factor = 1.0;
    options.router.capacity_drop = CapacityDrop::score;
    reason = "capacity_drop: by score";
  }
  REQUIRE_THROWS_WITH(
      validate(options),
      ContainsSubstring(reason) && ContainsSubstring("depend on tokens after it") &&
          ContainsSubstring("set router_sees_future"));
  options.router.sees_future = true;
  CHECK_NOTHROW(validate(options));
  CHECK(
      generation_obstacle(options).empty() ==
      (options.router.selection != RouterSelection::expert_choice));
}

TEST_CASE("canonical: ways of routing that are the same", "[decoder]") {
  const auto options = valid_options();
  auto other = options;
  SECTION("softmax over the chosen") {
    other.router.weighting = RouterWeighting::softmax;
    other.router.normalize_weights = false;
    other.router.normalize_power = 3.0;
  }
  SECTION("numbers of what is not there") {
    other.router.cosine_dim = 8;
    other.router.cosine_temperature = 0.1;
    other.router.capacity_drop = CapacityDrop::score;
    other.router.sees_future = true;
  }
  CHECK_FALSE((other == options));
  CHECK((canonical(other) == canonical(options)));
  // Of other scores, the softmax is not their quotient.
  other.router.weighting = RouterWeighting::softmax;
  other.router.score = RouterScore::sigmoid;
  auto sigmoid = options;
  sigmoid.router.score = RouterScore::sigmoid;
  CHECK_FALSE((canonical(other) == canonical(sigmoid)));
}

TEST_CASE("canonical: the same model has the same options", "[decoder]") {
  const auto options = valid_options();
  auto other = options;
  SECTION("defaults written out") {
    other.attention.num_kv_heads = 4;
    other.attention.head_dim = other.rotary.dim = 64;
    other.layer_num_heads = {4, 4, 4, 4};
    other.layer_rope_theta = {1e4, 1e4, 1e4, 1e4};
    other.attention.multiplier = 0.125;
  }
  SECTION("numbers of what is not there") {
    other.full_attention_layers = {1};
    other.rotary.factor = 8.0;
    other.dense_dim = 77;
    other.router.groups = 2;
    other.router.sparsemixer_jitter = 0.5;
    other.attention.query_growth_length = 3;
    other.router.normalize_power = 1.0;
  }
  SECTION("a window of which every layer is free") {
    other.attention.sliding_window = 9;
    other.full_attention_layers = {3, 2, 1, 0};
  }
  CHECK_FALSE((other == options));
  CHECK((canonical(other) == canonical(options)));
  CHECK(has_plain_form(other));
}

TEST_CASE("has_plain_form: whatever changes the blocks is not plain", "[decoder]") {
  auto options = valid_options();
  CHECK(has_plain_form(options));
  SECTION("what plain models may differ in") {
    options.attention.sliding_window = 8;
    options.attention.qk_norm = false;
    options.shared_expert_dim = 16;
    options.tie_embeddings = true;
    options.router.capacity_factor = 1.25;
    options.router.jitter = 0.1;
    CHECK(has_plain_form(options));
    return;
  }
  SECTION("routing by hash") {
    options.router.selection = RouterSelection::hash;
  }
  SECTION("noise, which has weights") {
    options.router.noise = RouterNoise::learned;
  }
  SECTION("norms") {
    options.norm_placement = NormPlacement::both;
  }
  SECTION("a window in some layers") {
    options.attention.sliding_window = 8;
    options.full_attention_layers = {0};
  }
  SECTION("positions") {
    options.rotary.dim = 32;
  }
  SECTION("multipliers") {
    options.residual_multiplier = 0.5;
  }
  SECTION("scores") {
    options.router.score = RouterScore::sigmoid;
  }
  CHECK_FALSE(has_plain_form(options));
}

TEST_CASE("count_parameters counts K of E experts as active", "[decoder]") {
  DecoderOptions options{
      .vocab_size = 10,
      .model_dim = 4,
      .num_layers = 2,
      .attention = {.num_heads = 2},
      .num_experts = 3,
      .experts_per_token = 2,
      .expert_dim = 5,
      .dense_layers = {0},
      .dense_dim = 7};
  // embedding and head 2·10·4, final norm 4, per layer attention 4·4·4 + q and k norm 2·2 and
  // two norms 2·4, dense layer 3·4·7, MoE layer router 3·4 and per expert 3·4·5.
  const int64_t common = 80 + 4 + 2 * (64 + 4 + 8) + 84 + 12;
  CHECK(count_parameters(options).total == common + 3 * 60);
  CHECK(count_parameters(options).active == common + 2 * 60);
}

TEST_CASE("DecoderOptions: numbers of experts by layer", "[decoder]") {
  auto options = valid_options();
  options.dense_layers = {1};
  options.layer_num_experts = {4, 0, 8, 6};
  CHECK_NOTHROW(validate(options));
  CHECK(layer_experts(options, 0) == 4);
  CHECK(layer_experts(options, 1) == 0);
  CHECK(canonical(options).layer_num_experts == std::vector<int64_t>{4, 8, 8, 6});
  CHECK_FALSE(has_plain_form(options));
  // Each expert has a matrix of 3 · 256 · 512 and a row of the router; K of them are active.
  auto even = options;
  even.layer_num_experts.clear();
  const int64_t expert = 3 * 256 * 512;
  CHECK(count_parameters(even).total - count_parameters(options).total == 6 * (expert + 256));
  CHECK(count_parameters(even).active - count_parameters(options).active == 6 * 256);

  auto same = options;
  same.layer_num_experts = {6, 0, 6, 6};
  CHECK(canonical(same).num_experts == 6);
  CHECK(canonical(same).layer_num_experts.empty());

  options.layer_num_experts = {1, 0, 8, 8};
  CHECK_THROWS_WITH(validate(options), ContainsSubstring("layer_num_experts: 1 of layer 0"));
  options.layer_num_experts = {9, 0, 8, 8};
  CHECK_THROWS_WITH(validate(options), ContainsSubstring("layer_num_experts: 9 of layer 0"));
  options.layer_num_experts = {8, 8};
  CHECK_THROWS_WITH(validate(options), ContainsSubstring("2 values for 4 layers"));
  options.layer_num_experts = {4, 0, 8, 8};
  options.router.selection = RouterSelection::groups_by_max;
  options.router.groups = 2;
  options.router.groups_kept = 2;
  CHECK_THROWS_WITH(
      validate(options), ContainsSubstring("layers with different numbers of experts need"));
}
