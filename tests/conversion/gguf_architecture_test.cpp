#include "moe/conversion/gguf_architecture.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions small_mixtral() {
  DecoderOptions options;
  options.vocab_size = 100;
  options.model_dim = 64;
  options.attention.qk_norm = false;
  return options;
}

GgufValue value_of(const GgufMetadata& metadata, const std::string& key) {
  for (const auto& [name, value] : metadata) {
    if (name == key) {
      return value;
    }
  }
  FAIL("no " << key);
  return {};
}

} // namespace

TEST_CASE("gguf_architecture: what the file says", "[conversion]") {
  auto options = small_mixtral();
  options.num_experts = 6;
  const auto llama = gguf_architecture("mixtral", options);
  CHECK(llama.name == "llama");
  CHECK(llama.rotary_pairs);
  const auto metadata = gguf_metadata(llama, options);
  CHECK(value_of(metadata, "llama.expert_count") == GgufValue(uint32_t{6}));
  CHECK(value_of(metadata, "llama.attention.head_count_kv") == GgufValue(uint32_t{4}));
  CHECK(value_of(metadata, "llama.rope.dimension_count") == GgufValue(uint32_t{16}));
}

TEST_CASE("gguf_architecture: multipliers are what granite says", "[conversion]") {
  auto options = small_mixtral();
  options.logits_multiplier = 0.125;
  options.embedding_multiplier = 12.0;
  const auto metadata = gguf_metadata(gguf_architecture("granitemoe", options), options);
  CHECK(value_of(metadata, "granitemoe.logit_scale") == GgufValue(8.0f));
  CHECK(value_of(metadata, "granitemoe.embedding_scale") == GgufValue(12.0f));
  CHECK_THROWS_WITH(
      gguf_architecture("mixtral", options),
      ContainsSubstring("embedding_multiplier (12), logits_multiplier (0.125)"));
}

TEST_CASE("gguf_architecture: refuses what llama.cpp computes otherwise", "[conversion]") {
  CHECK_THROWS_WITH(
      gguf_architecture("phimoe", small_mixtral()),
      ContainsSubstring("phimoe is not supported"));
  auto options = small_mixtral();
  options.attention.sliding_window = 8;
  CHECK_THROWS_WITH(
      gguf_architecture("mixtral", options),
      ContainsSubstring(
          "llama.cpp's llama computes another model, because of sliding_window (8)"));
  options = small_mixtral();
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  options.attention.qk_norm = true;
  options.dense_layers = {0};
  options.shared_expert_dim = options.expert_dim;
  CHECK(gguf_architecture("glm4_moe", options).name == "glm4moe");
  options.dense_layers = {1};
  CHECK_THROWS_WITH(
      gguf_architecture("glm4_moe", options), ContainsSubstring("dense_layers (1)"));
  options.dense_layers = {0};
  CHECK(
      value_of(
          gguf_metadata(gguf_architecture("glm4_moe", options), options),
          "glm4moe.interleave_moe_layer_step") == GgufValue(uint32_t{1}));
  options.shared_expert_dim = options.expert_dim + 1;
  CHECK_THROWS_WITH(
      gguf_architecture("glm4_moe", options), ContainsSubstring("shared_expert_dim (513)"));
}

TEST_CASE("gguf_architecture: latent attention as one head of latent vectors", "[conversion]") {
  auto options = small_mixtral();
  options.attention.num_heads = 4;
  options.attention.head_dim = 20;
  options.rotary.dim = 8;
  options.attention.key_value_latent_dim = 16;
  options.attention.value_head_dim = 10;
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  options.router.selection = RouterSelection::groups_by_top2;
  options.router.groups = 4;
  options.router.groups_kept = 2;
  options.rotary.scaling = RotaryScaling::yarn;
  options.rotary.factor = 40.0;
  options.rotary.mscale = options.rotary.mscale_all_dim = 0.5;
  const auto metadata = gguf_metadata(gguf_architecture("deepseek_v3", options), options);
  const auto count = [&](const std::string& key) {
    return std::get<uint32_t>(value_of(metadata, "deepseek2." + key));
  };
  CHECK(count("attention.head_count_kv") == 1);
  CHECK(count("attention.key_length") == 16 + 8);
  CHECK(count("attention.value_length") == 16);
  CHECK(count("attention.key_length_mla") == 20);
  CHECK(count("attention.value_length_mla") == 10);
  CHECK(count("attention.kv_lora_rank") == 16);
  CHECK(count("attention.q_lora_rank") == 0);
  CHECK(count("rope.dimension_count") == 8);
  CHECK(count("expert_group_count") == 4);
  CHECK(count("expert_group_used_count") == 2);
  CHECK(count("expert_gating_func") == 2);
  CHECK(value_of(metadata, "deepseek2.rope.scaling.yarn_log_multiplier") == GgufValue(0.05f));
  options.rotary.mscale = 1.0;
  options.norm.epsilon = 1e-3;
  CHECK_THROWS_WITH(
      gguf_architecture("deepseek_v3", options),
      ContainsSubstring("because of rope_mscale (1), norm_epsilon (0.001)"));
}

TEST_CASE("gguf_architecture: windows by layer", "[conversion]") {
  auto options = small_mixtral();
  options.norm.kind = NormKind::layer;
  options.norm_placement = NormPlacement::parallel;
  options.logits_multiplier = 0.25;
  options.attention.sliding_window = 6;
  options.full_attention_layers = {0, 2};
  options.no_rope_layers = {2};
  options.dense_layers = {0};
  options.shared_expert_dim = options.expert_dim;
  options.moe_output_multiplier = 0.5;
  const auto metadata = gguf_metadata(gguf_architecture("cohere2_moe", options), options);
  CHECK(
      value_of(metadata, "cohere2moe.attention.sliding_window_pattern") ==
      GgufValue(std::vector<bool>{false, true, false, true}));
  CHECK(value_of(metadata, "cohere2moe.logit_scale") == GgufValue(0.25f));
  CHECK(value_of(metadata, "cohere2moe.attention.layer_norm_epsilon") == GgufValue(1e-6f));
  options.no_rope_layers = {0, 2};
  CHECK_THROWS_WITH(
      gguf_architecture("cohere2_moe", options), ContainsSubstring("no_rope_layers (0 2)"));
}

TEST_CASE("gguf_architecture: layers with experts at a distance", "[conversion]") {
  auto options = small_mixtral();
  options.num_layers = 6;
  options.attention.chunk = 8192;
  options.full_attention_layers = options.no_rope_layers = {3};
  options.attention.query_growth = 0.1;
  options.attention.qk_norm = true;
  options.attention.qk_norm_kind = QKNorm::unweighted;
  options.router.score = RouterScore::sigmoid;
  options.router.normalize_weights = false;
  options.router.weights_on_input = true;
  options.shared_expert_dim = options.expert_dim;
  options.dense_layers = {0, 1, 3, 4};
  const auto metadata = gguf_metadata(gguf_architecture("llama4_text", options), options);
  CHECK(value_of(metadata, "llama4.interleave_moe_layer_step") == GgufValue(uint32_t{3}));
  options.dense_layers = {0, 1, 3};
  CHECK_THROWS_WITH(
      gguf_architecture("llama4_text", options), ContainsSubstring("dense_layers (0 1 3)"));
}
