#include "moe/conversion/gguf_architecture.h"

#include <utility>

#include "moe/decoder/option_differences.h"
#include "moe/error.h"
#include "moe/join_words_internal.h"

namespace moe {
namespace {

/// What all files say; rotary positions as they are, no norm of heads, no bias.
DecoderOptions said_by_all(const DecoderOptions& options) {
  DecoderOptions said;
  said.vocab_size = options.vocab_size;
  said.context_length = options.context_length;
  said.model_dim = options.model_dim;
  said.num_layers = options.num_layers;
  said.tie_embeddings = options.tie_embeddings;
  said.num_heads = options.num_heads;
  said.num_kv_heads = options.num_kv_heads;
  said.head_dim = options.head_dim;
  said.rope_theta = options.rope_theta;
  said.norm_epsilon = options.norm_epsilon;
  said.num_experts = options.num_experts;
  said.experts_per_token = options.experts_per_token;
  said.expert_dim = options.expert_dim;
  said.dense_dim = options.dense_dim;
  said.initializer_range = options.initializer_range;
  // Of training only.
  said.router_jitter = options.router_jitter;
  said.capacity_factor = options.capacity_factor;
  said.capacity_drop = options.capacity_drop;
  said.router_sees_future = options.router_sees_future;
  said.qk_norm = false;
  return said;
}

void say_scaling(DecoderOptions& said, const DecoderOptions& options) {
  if (options.rope_scaling != "linear" && options.rope_scaling != "yarn") {
    return;
  }
  said.rope_scaling = options.rope_scaling;
  said.rope_factor = options.rope_factor;
  said.rope_original_length = options.rope_original_length;
  said.rope_beta_fast = options.rope_beta_fast;
  said.rope_beta_slow = options.rope_beta_slow;
}

/// DeepSeek-V3's router, and dense layers before those with experts.
void say_sigmoid_router(DecoderOptions& said, const DecoderOptions& options) {
  said.router_score = "sigmoid";
  said.router_selection_bias = true;
  said.normalize_weights = options.normalize_weights;
  said.normalize_minimum = options.normalize_minimum; // too small to matter
  said.routed_scaling_factor = options.routed_scaling_factor;
  // The file counts shared experts of the routed ones' width.
  said.shared_expert_dim = options.shared_expert_dim / options.expert_dim * options.expert_dim;
  for (int64_t layer = 0; layer < static_cast<int64_t>(options.dense_layers.size()); ++layer) {
    said.dense_layers.push_back(layer);
  }
}

GgufArchitecture llama(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention_bias = options.attention_bias;
  said.feed_forward_bias = options.num_experts == 0 && options.feed_forward_bias;
  say_scaling(said, options);
  if (options.rope_scaling == "llama3") { // as a tensor of divisors
    said.rope_scaling = options.rope_scaling;
    said.rope_factor = options.rope_factor;
    said.rope_original_length = options.rope_original_length;
    said.rope_low_frequency_factor = options.rope_low_frequency_factor;
    said.rope_high_frequency_factor = options.rope_high_frequency_factor;
  }
  return {.name = "llama", .computes = said, .rotary_pairs = true};
}

GgufArchitecture qwen2_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.head_dim = options.model_dim / options.num_heads;
  said.qkv_bias = true;
  said.normalize_weights = false;
  said.shared_expert_dim = options.shared_expert_dim;
  said.shared_expert_gate = true;
  say_scaling(said, options);
  return {.name = "qwen2moe", .computes = said, .head_required = true};
}

GgufArchitecture qwen3(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.qk_norm = true;
  say_scaling(said, options);
  return {.name = options.num_experts > 0 ? "qwen3moe" : "qwen3", .computes = said};
}

GgufArchitecture olmo2(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.head_dim = options.model_dim / options.num_heads;
  said.qk_norm = true;
  said.qk_norm_kind = "full";
  said.norm_placement = "after";
  say_scaling(said, options);
  return {
      .name = "olmo2",
      .computes = said,
      .head_required = true,
      .attention_norm = "post_attention_norm",
      .feed_forward_norm = "post_ffw_norm"};
}

GgufArchitecture olmoe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.head_dim = options.model_dim / options.num_heads;
  said.qk_norm = true;
  said.qk_norm_kind = "full";
  said.normalize_weights = false;
  say_scaling(said, options);
  return {.name = "olmoe", .computes = said, .head_required = true};
}

GgufArchitecture granite_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention_bias = options.attention_bias;
  said.embedding_multiplier = options.embedding_multiplier;
  said.residual_multiplier = options.residual_multiplier;
  said.logits_multiplier = options.logits_multiplier;
  said.attention_multiplier = options.attention_multiplier;
  said.shared_expert_dim = options.shared_expert_dim;
  say_scaling(said, options);
  return {.name = "granitemoe", .computes = said, .rotary_pairs = true, .multipliers = true};
}

GgufArchitecture dots1(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.num_kv_heads = options.num_heads; // it has no grouped ones
  said.head_dim = options.model_dim / options.num_heads;
  said.qk_norm = true;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {.name = "dots1", .computes = said, .head_required = true};
}

GgufArchitecture glm4_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.qk_norm = options.qk_norm;
  said.qkv_bias = options.qkv_bias;
  said.rotary_dim = options.rotary_dim;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {.name = "glm4moe", .computes = said, .feed_forward_norm = "post_attention_norm"};
}

GgufArchitecture minimax_m2(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.qk_norm = true;
  said.qk_norm_kind = "full";
  said.rotary_dim = options.rotary_dim;
  say_sigmoid_router(said, options);
  said.dense_layers.clear();
  said.shared_expert_dim = 0;
  said.normalize_weights = true;
  said.routed_scaling_factor = 1.0;
  say_scaling(said, options);
  return {.name = "minimax-m2", .computes = said, .head_required = true};
}

GgufArchitecture ernie4_5_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  say_sigmoid_router(said, options);
  said.router_score = "softmax";
  said.normalize_weights = true;
  said.routed_scaling_factor = 1.0;
  say_scaling(said, options);
  return {.name = "ernie4_5-moe", .computes = said, .rotary_pairs = true};
}

GgufArchitecture gpt_oss(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention_bias = true;
  said.attention_sinks = true;
  said.sliding_window = options.sliding_window;
  for (int64_t layer = 1; layer < options.num_layers; layer += 2) {
    said.full_attention_layers.push_back(layer);
  }
  said.router_bias = true;
  said.expert_bias = true;
  said.activation_limit = 7.0;
  said.activation_sigmoid_scale = 1.702;
  said.activation_offset = 1.0;
  say_scaling(said, options);
  // llama.cpp knows no other than whole bounds; for published models, whose bounds are not, it
  // turns some frequencies a little otherwise.
  said.rope_truncate = options.rope_truncate;
  return {
      .name = "gpt-oss",
      .computes = said,
      .head_required = true,
      .feed_forward_norm = "post_attention_norm"};
}

using Describe = GgufArchitecture (*)(const DecoderOptions&);

const std::vector<std::pair<std::string, Describe>> kFamilies = {
    {"dots1", dots1},
    {"ernie4_5_moe", ernie4_5_moe},
    {"glm4_moe", glm4_moe},
    {"gpt_oss", gpt_oss},
    {"granitemoe", granite_moe},
    {"granitemoeshared", granite_moe},
    {"llama", llama},
    {"minimax_m2", minimax_m2},
    {"mistral", llama},
    {"mixtral", llama},
    {"olmo2", olmo2},
    {"olmoe", olmoe},
    {"qwen2_moe", qwen2_moe},
    {"qwen3", qwen3},
    {"qwen3_moe", qwen3}};

/// Keys under the architecture's name.
class ModelKeys {
 public:
  explicit ModelKeys(const std::string& architecture) : prefix_(architecture + ".") {}

  void count(const std::string& key, int64_t value) {
    add(key, static_cast<uint32_t>(value));
  }
  void number(const std::string& key, double value) {
    add(key, static_cast<float>(value));
  }
  void add(const std::string& key, GgufValue value) {
    metadata_.emplace_back(prefix_ + key, std::move(value));
  }
  GgufMetadata take() {
    return std::move(metadata_);
  }

 private:
  std::string prefix_;
  GgufMetadata metadata_;
};

void add_attention_keys(ModelKeys& keys, const DecoderOptions& options) {
  keys.count("attention.head_count", options.num_heads);
  keys.count("attention.head_count_kv", options.num_kv_heads);
  keys.count("attention.key_length", options.head_dim);
  keys.count("attention.value_length", options.head_dim);
  keys.number("attention.layer_norm_rms_epsilon", options.norm_epsilon);
  if (options.sliding_window > 0) {
    keys.count("attention.sliding_window", options.sliding_window);
  }
  keys.count("rope.dimension_count", options.rotary_dim);
  keys.number("rope.freq_base", options.rope_theta);
  if (options.rope_scaling == "linear" || options.rope_scaling == "yarn") {
    keys.add("rope.scaling.type", options.rope_scaling);
    keys.number("rope.scaling.factor", options.rope_factor);
  }
  if (options.rope_scaling == "yarn") {
    keys.count("rope.scaling.original_context_length", options.rope_original_length);
    keys.number("rope.scaling.yarn_beta_fast", options.rope_beta_fast);
    keys.number("rope.scaling.yarn_beta_slow", options.rope_beta_slow);
  }
}

void add_expert_keys(ModelKeys& keys, const DecoderOptions& options) {
  const bool all_layers = options.dense_layers.empty();
  keys.count("feed_forward_length", all_layers ? options.expert_dim : options.dense_dim);
  keys.count("leading_dense_block_count", static_cast<int64_t>(options.dense_layers.size()));
  keys.count("interleave_moe_layer_step", 1);
  keys.count("expert_count", options.num_experts);
  keys.count("expert_used_count", options.experts_per_token);
  keys.count("expert_feed_forward_length", options.expert_dim);
  if (options.shared_expert_dim > 0) {
    keys.count("expert_shared_feed_forward_length", options.shared_expert_dim);
    keys.count("expert_shared_count", options.shared_expert_dim / options.expert_dim);
  }
  keys.count("expert_gating_func", options.router_score == "sigmoid" ? 2 : 1);
  keys.add("expert_weights_norm", options.normalize_weights);
  keys.number("expert_weights_scale", options.routed_scaling_factor);
}

} // namespace

std::vector<std::string> gguf_families() {
  std::vector<std::string> names;
  for (const auto& [family, describe] : kFamilies) {
    names.push_back(family);
  }
  return names;
}

GgufArchitecture gguf_architecture(const std::string& family, const DecoderOptions& options) {
  for (const auto& [name, describe] : kFamilies) {
    if (name == family) {
      auto architecture = describe(options);
      const auto others = option_differences(options, architecture.computes);
      check(
          others.empty(),
          "gguf: llama.cpp's ",
          architecture.name,
          " computes another model, because of ",
          join_words(others));
      return architecture;
    }
  }
  fail(
      "gguf: the architecture ",
      family,
      " is not supported; known are ",
      join_words(gguf_families()));
}

GgufMetadata gguf_metadata(const GgufArchitecture& architecture, const DecoderOptions& given) {
  const auto options = canonical(given);
  ModelKeys keys(architecture.name);
  keys.count("block_count", options.num_layers);
  keys.count("context_length", options.context_length);
  keys.count("embedding_length", options.model_dim);
  keys.count("vocab_size", options.vocab_size);
  add_attention_keys(keys, options);
  if (options.num_experts > 0) {
    add_expert_keys(keys, options);
  } else {
    keys.count("feed_forward_length", options.dense_dim);
  }
  if (architecture.multipliers) {
    keys.number("embedding_scale", options.embedding_multiplier);
    keys.number("residual_scale", options.residual_multiplier);
    keys.number("logit_scale", 1.0 / options.logits_multiplier);
    keys.number("attention.scale", options.attention_multiplier);
  }
  return keys.take();
}

} // namespace moe
