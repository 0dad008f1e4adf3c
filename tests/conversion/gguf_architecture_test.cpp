#include "moe/conversion/gguf_architecture.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions small_mixtral() {
  DecoderOptions options;
  options.vocab_size = 100;
  options.model_dim = 64;
  options.qk_norm = false;
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
  options.sliding_window = 8;
  CHECK_THROWS_WITH(
      gguf_architecture("mixtral", options),
      ContainsSubstring(
          "llama.cpp's llama computes another model, because of sliding_window (8)"));
  options = small_mixtral();
  options.router_score = "sigmoid";
  options.router_selection_bias = true;
  options.qk_norm = true;
  options.dense_layers = {0};
  options.shared_expert_dim = options.expert_dim;
  CHECK(gguf_architecture("glm4_moe", options).name == "glm4moe");
  options.dense_layers = {1};
  CHECK_THROWS_WITH(
      gguf_architecture("glm4_moe", options), ContainsSubstring("dense_layers (1)"));
  options.dense_layers = {0};
  options.shared_expert_dim = options.expert_dim + 1;
  CHECK_THROWS_WITH(
      gguf_architecture("glm4_moe", options), ContainsSubstring("shared_expert_dim (513)"));
}
