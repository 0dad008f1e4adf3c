#include "moe/conversion/gguf_architecture.h"

#include <utility>

#include "moe/conversion/gguf_families_internal.h"
#include "moe/decoder/option_differences.h"
#include "moe/error.h"
#include "moe/join_words_internal.h"

namespace moe {
namespace {

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

/// Heads of plain attention, or those that llama.cpp computes latent attention with: one head
/// of keys and values, which are the latent vectors.
void add_head_keys(ModelKeys& keys, const DecoderOptions& options) {
  keys.count("attention.head_count", options.attention.num_heads);
  const int64_t latent = options.attention.key_value_latent_dim;
  keys.count("attention.head_count_kv", latent > 0 ? 1 : options.attention.num_kv_heads);
  keys.count(
      "attention.key_length",
      latent > 0 ? latent + options.rotary.dim : options.attention.head_dim);
  keys.count("attention.value_length", latent > 0 ? latent : options.attention.head_dim);
  if (latent > 0) {
    keys.count("attention.key_length_mla", options.attention.head_dim);
    keys.count("attention.value_length_mla", options.attention.value_head_dim);
    keys.count("attention.kv_lora_rank", latent);
    keys.count("attention.q_lora_rank", options.attention.query_latent_dim);
  }
}

void add_window_keys(
    ModelKeys& keys, const GgufArchitecture& architecture, const DecoderOptions& options) {
  if (options.attention.sliding_window > 0) {
    keys.count("attention.sliding_window", options.attention.sliding_window);
  }
  if (architecture.window_by_layer) {
    std::vector<bool> has_window;
    for (int64_t layer = 0; layer < options.num_layers; ++layer) {
      has_window.push_back(!names_layer(options.full_attention_layers, layer));
    }
    keys.add("attention.sliding_window_pattern", has_window);
  }
}

void add_attention_keys(
    ModelKeys& keys, const GgufArchitecture& architecture, const DecoderOptions& options) {
  add_head_keys(keys, options);
  keys.number(
      options.norm.kind == NormKind::rms ? "attention.layer_norm_rms_epsilon"
                                         : "attention.layer_norm_epsilon",
      options.norm.epsilon);
  add_window_keys(keys, architecture, options);
  if (architecture.fused_projections) {
    keys.number("attention.clamp_kqv", options.attention.clip_qkv);
  }
  if (options.attention.query_growth != 0.0) {
    keys.number("attention.temperature_scale", options.attention.query_growth);
    keys.count("attention.temperature_length", options.attention.query_growth_length);
  }
  keys.count("rope.dimension_count", options.rotary.dim);
  keys.number("rope.freq_base", options.rotary.theta);
  if (options.rotary.scaling == RotaryScaling::linear ||
      options.rotary.scaling == RotaryScaling::yarn) {
    keys.add("rope.scaling.type", std::string(enum_name(options.rotary.scaling)));
    keys.number("rope.scaling.factor", options.rotary.factor);
  }
  if (options.rotary.scaling == RotaryScaling::yarn) {
    keys.count("rope.scaling.original_context_length", options.rotary.original_length);
    keys.number("rope.scaling.yarn_beta_fast", options.rotary.beta_fast);
    keys.number("rope.scaling.yarn_beta_slow", options.rotary.beta_slow);
    if (options.rotary.mscale_all_dim != 0.0) {
      keys.number("rope.scaling.yarn_log_multiplier", 0.1 * options.rotary.mscale_all_dim);
    }
  }
}

void add_expert_keys(
    ModelKeys& keys, const GgufArchitecture& architecture, const DecoderOptions& options) {
  const bool all_layers = options.dense_layers.empty();
  keys.count("feed_forward_length", all_layers ? options.expert_dim : options.dense_dim);
  keys.count("leading_dense_block_count", static_cast<int64_t>(options.dense_layers.size()));
  keys.count("interleave_moe_layer_step", architecture.expert_step);
  keys.count("expert_count", options.num_experts);
  keys.count("expert_used_count", options.experts_per_token);
  keys.count("expert_feed_forward_length", options.expert_dim);
  if (options.shared_expert_dim > 0) {
    keys.count("expert_shared_feed_forward_length", options.shared_expert_dim);
    keys.count("expert_shared_count", options.shared_expert_dim / options.expert_dim);
  }
  if (options.router.groups > 1) {
    keys.count("expert_group_count", options.router.groups);
    keys.count("expert_group_used_count", options.router.groups_kept);
  }
  keys.count("expert_gating_func", options.router.score == RouterScore::sigmoid ? 2 : 1);
  keys.add("expert_weights_norm", options.router.normalize_weights);
  keys.number("expert_weights_scale", options.router.routed_scaling_factor);
}

} // namespace

std::vector<std::string> gguf_families() {
  std::vector<std::string> names;
  for (const auto& family : gguf_family_list()) {
    names.push_back(family.model_type);
  }
  return names;
}

GgufArchitecture gguf_architecture(const std::string& family, const DecoderOptions& options) {
  for (const auto& known : gguf_family_list()) {
    if (known.model_type == family) {
      auto architecture = known.describe(options);
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
  add_attention_keys(keys, architecture, options);
  if (options.num_experts > 0) {
    add_expert_keys(keys, architecture, options);
  } else {
    keys.count("feed_forward_length", options.dense_dim);
  }
  if (architecture.multipliers) {
    keys.number("embedding_scale", options.embedding_multiplier);
    keys.number("residual_scale", options.residual_multiplier);
    keys.number("logit_scale", 1.0 / options.logits_multiplier);
    keys.number("attention.scale", options.attention.multiplier);
  }
  if (architecture.multiplies_logits) {
    keys.number("logit_scale", options.logits_multiplier);
  }
  return keys.take();
}

} // namespace moe
