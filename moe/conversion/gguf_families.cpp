#include <cmath>

#include "moe/conversion/gguf_families_internal.h"

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

/// Groups of which the best by their two best experts are kept.
void say_groups(DecoderOptions& said, const DecoderOptions& options) {
  if (options.router_groups > 1) {
    said.router_selection = "groups_by_top2";
    said.router_groups = options.router_groups;
    said.router_groups_kept = options.router_groups_kept;
  }
}

/// So many dense layers before those with experts, and shared experts of the routed ones'
/// width.
void say_dense_and_shared(DecoderOptions& said, const DecoderOptions& options) {
  said.shared_expert_dim = options.shared_expert_dim / options.expert_dim * options.expert_dim;
  for (int64_t layer = 0; layer < static_cast<int64_t>(options.dense_layers.size()); ++layer) {
    said.dense_layers.push_back(layer);
  }
}

/// Every fourth layer.
std::vector<int64_t> fourth_layers(const DecoderOptions& options) {
  std::vector<int64_t> layers;
  for (int64_t layer = 3; layer < options.num_layers; layer += 4) {
    layers.push_back(layer);
  }
  return layers;
}

/// DeepSeek-V3's router, and dense layers before those with experts.
void say_sigmoid_router(DecoderOptions& said, const DecoderOptions& options) {
  said.router_score = "sigmoid";
  said.router_selection_bias = true;
  said.normalize_weights = options.normalize_weights;
  said.normalize_minimum = options.normalize_minimum; // too small to matter
  said.routed_scaling_factor = options.routed_scaling_factor;
  say_groups(said, options);
  say_dense_and_shared(said, options);
}

void say_llama3_scaling(DecoderOptions& said, const DecoderOptions& options) {
  if (options.rope_scaling == "llama3") { // as a tensor of divisors
    said.rope_scaling = options.rope_scaling;
    said.rope_factor = options.rope_factor;
    said.rope_original_length = options.rope_original_length;
    said.rope_low_frequency_factor = options.rope_low_frequency_factor;
    said.rope_high_frequency_factor = options.rope_high_frequency_factor;
  }
}

/// The distance of layers with experts where the first ones are dense.
int64_t expert_step(const DecoderOptions& options) {
  int64_t first = 0;
  while (first + 1 < options.num_layers && names_layer(options.dense_layers, first)) {
    ++first;
  }
  return first + 1;
}

GgufArchitecture llama(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention_bias = options.attention_bias;
  said.feed_forward_bias = options.num_experts == 0 && options.feed_forward_bias;
  say_scaling(said, options);
  say_llama3_scaling(said, options);
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
  return {.name = "olmo2", .computes = said, .head_required = true};
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

void say_latent_attention(DecoderOptions& said, const DecoderOptions& options) {
  said.query_latent_dim = options.query_latent_dim;
  said.key_value_latent_dim = options.key_value_latent_dim;
  said.value_head_dim = options.value_head_dim;
  said.rotary_dim = options.rotary_dim;
  // The norms of latent vectors have 1e-6 for it, in llama.cpp what all others have; up to 1e-5
  // the difference is too small to matter.
  said.norm_epsilon = options.norm_epsilon <= 1e-5 ? options.norm_epsilon : 1e-6;
  say_scaling(said, options);
}

GgufArchitecture latent_experts(const char* name, const DecoderOptions& options) {
  auto said = said_by_all(options);
  say_latent_attention(said, options);
  say_dense_and_shared(said, options);
  say_groups(said, options);
  said.normalize_weights = options.normalize_weights;
  said.routed_scaling_factor = options.routed_scaling_factor;
  return {.name = name, .computes = said, .rotary_pairs = true};
}

GgufArchitecture deepseek_v2(const DecoderOptions& options) {
  auto architecture = latent_experts("deepseek2", options);
  // The file has one number for both.
  architecture.computes.rope_mscale = options.rope_mscale_all_dim;
  architecture.computes.rope_mscale_all_dim = options.rope_mscale_all_dim;
  return architecture;
}

GgufArchitecture deepseek_v3(const DecoderOptions& options) {
  auto architecture = deepseek_v2(options);
  auto& said = architecture.computes;
  said.router_score = "sigmoid";
  said.router_selection_bias = true;
  said.normalize_minimum = options.normalize_minimum; // too small to matter
  return architecture;
}

GgufArchitecture mistral4(const DecoderOptions& options) {
  auto architecture = latent_experts("mistral4", options);
  auto& said = architecture.computes;
  said.rope_mscale = options.rope_mscale_all_dim != 0.0 ? 1.0 : 0.0;
  said.rope_mscale_all_dim = options.rope_mscale_all_dim;
  said.query_growth = options.query_growth;
  said.query_growth_length = options.query_growth_length;
  return architecture;
}

GgufArchitecture llama4(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention_chunk = 8192;
  said.full_attention_layers = fourth_layers(options);
  said.no_rope_layers = said.full_attention_layers;
  said.query_growth = said.no_rope_layers.empty() ? 0.0 : 0.1;
  said.qk_norm = options.num_experts != 128; // it takes these for Maverick
  said.qk_norm_kind = "unweighted";
  said.shared_expert_dim = options.expert_dim;
  said.router_score = "sigmoid";
  said.normalize_weights = false;
  said.weights_on_input = true;
  const int64_t step = expert_step(options);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if ((layer + 1) % step != 0) {
      said.dense_layers.push_back(layer);
    }
  }
  say_llama3_scaling(said, options);
  return {.name = "llama4", .computes = said, .rotary_pairs = true, .expert_step = step};
}

GgufArchitecture hunyuan_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.qk_norm = true;
  said.qk_norm_after_rope = true;
  said.shared_expert_dim = options.shared_expert_dim;
  say_scaling(said, options);
  return {.name = "hunyuan-moe", .computes = said};
}

GgufArchitecture exaone_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.qk_norm = true;
  said.sliding_window = options.sliding_window;
  said.full_attention_layers = options.full_attention_layers;
  said.no_rope_layers = options.full_attention_layers;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {
      .name = "exaone-moe", .computes = said, .head_required = true, .window_by_layer = true};
}

GgufArchitecture afmoe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.embedding_multiplier = std::sqrt(static_cast<double>(options.model_dim));
  said.qk_norm = true;
  said.norm_placement = "both";
  said.attention_gate = "sigmoid";
  said.sliding_window = options.sliding_window;
  said.full_attention_layers = fourth_layers(options);
  said.no_rope_layers = said.full_attention_layers;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {.name = "afmoe", .computes = said, .head_required = true};
}

GgufArchitecture cohere2_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.norm = options.norm == "rms" ? "rms" : "layer";
  said.norm_placement = "parallel";
  said.logits_multiplier = options.logits_multiplier;
  said.sliding_window = options.sliding_window;
  said.full_attention_layers = options.full_attention_layers;
  say_dense_and_shared(said, options);
  for (const int64_t layer : options.full_attention_layers) {
    if (!names_layer(said.dense_layers, layer)) {
      said.no_rope_layers.push_back(layer);
    }
  }
  said.moe_output_multiplier = said.shared_expert_dim > 0 ? 0.5 : 1.0;
  said.router_score = options.router_score == "sigmoid" ? "sigmoid" : "softmax";
  said.normalize_weights = options.normalize_weights;
  said.normalize_minimum = options.normalize_minimum;
  say_scaling(said, options);
  return {
      .name = "cohere2moe",
      .computes = said,
      .rotary_pairs = true,
      .multiplies_logits = true,
      .window_by_layer = true};
}

GgufArchitecture dbrx(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.head_dim = options.model_dim / options.num_heads;
  said.norm = "layer";
  said.clip_qkv = options.clip_qkv;
  say_scaling(said, options);
  return {
      .name = "dbrx",
      .computes = said,
      .head_required = true,
      .fused_projections = true,
      .feed_forward_norm = "attn_output_norm"};
}

const std::vector<GgufFamily> kGgufFamilies = {
    {"afmoe", afmoe},
    {"cohere2_moe", cohere2_moe},
    {"dbrx", dbrx},
    {"deepseek_v2", deepseek_v2},
    {"deepseek_v3", deepseek_v3},
    {"dots1", dots1},
    {"ernie4_5_moe", ernie4_5_moe},
    {"exaone_moe", exaone_moe},
    {"glm4_moe", glm4_moe},
    {"glm4_moe_lite", deepseek_v3},
    {"gpt_oss", gpt_oss},
    {"granitemoe", granite_moe},
    {"granitemoeshared", granite_moe},
    {"hunyuan_v1_moe", hunyuan_moe},
    {"llama", llama},
    {"llama4_text", llama4},
    {"minimax_m2", minimax_m2},
    {"mistral", llama},
    {"mistral4", mistral4},
    {"mixtral", llama},
    {"olmo2", olmo2},
    {"olmoe", olmoe},
    {"qwen2_moe", qwen2_moe},
    {"qwen3", qwen3},
    {"qwen3_moe", qwen3}};

} // namespace

const std::vector<GgufFamily>& gguf_family_list() {
  return kGgufFamilies;
}

} // namespace moe
