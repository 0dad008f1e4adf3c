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
  said.attention.num_heads = options.attention.num_heads;
  said.attention.num_kv_heads = options.attention.num_kv_heads;
  said.attention.head_dim = options.attention.head_dim;
  said.rotary.theta = options.rotary.theta;
  said.norm.epsilon = options.norm.epsilon;
  said.num_experts = options.num_experts;
  said.experts_per_token = options.experts_per_token;
  said.expert_dim = options.expert_dim;
  said.dense_dim = options.dense_dim;
  said.initializer_range = options.initializer_range;
  // Of training only.
  said.router.jitter = options.router.jitter;
  said.router.capacity_factor = options.router.capacity_factor;
  said.router.capacity_drop = options.router.capacity_drop;
  said.router.sees_future = options.router.sees_future;
  said.attention.qk_norm = false;
  return said;
}

void say_scaling(DecoderOptions& said, const DecoderOptions& options) {
  if (options.rotary.scaling != RotaryScaling::linear &&
      options.rotary.scaling != RotaryScaling::yarn) {
    return;
  }
  said.rotary.scaling = options.rotary.scaling;
  said.rotary.factor = options.rotary.factor;
  said.rotary.original_length = options.rotary.original_length;
  said.rotary.beta_fast = options.rotary.beta_fast;
  said.rotary.beta_slow = options.rotary.beta_slow;
}

/// Groups of which the best by their two best experts are kept.
void say_groups(DecoderOptions& said, const DecoderOptions& options) {
  if (options.router.groups > 1) {
    said.router.selection = RouterSelection::groups_by_top2;
    said.router.groups = options.router.groups;
    said.router.groups_kept = options.router.groups_kept;
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
  said.router.score = RouterScore::sigmoid;
  said.router.selection_bias = true;
  said.router.normalize_weights = options.router.normalize_weights;
  said.router.normalize_minimum = options.router.normalize_minimum; // too small to matter
  said.router.routed_scaling_factor = options.router.routed_scaling_factor;
  say_groups(said, options);
  say_dense_and_shared(said, options);
}

void say_llama3_scaling(DecoderOptions& said, const DecoderOptions& options) {
  if (options.rotary.scaling == RotaryScaling::llama3) { // as a tensor of divisors
    said.rotary.scaling = options.rotary.scaling;
    said.rotary.factor = options.rotary.factor;
    said.rotary.original_length = options.rotary.original_length;
    said.rotary.low_frequency_factor = options.rotary.low_frequency_factor;
    said.rotary.high_frequency_factor = options.rotary.high_frequency_factor;
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
  said.attention.bias = options.attention.bias;
  said.feed_forward_bias = options.num_experts == 0 && options.feed_forward_bias;
  say_scaling(said, options);
  say_llama3_scaling(said, options);
  return {.name = "llama", .computes = said, .rotary_pairs = true};
}

GgufArchitecture qwen2_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.head_dim = options.model_dim / options.attention.num_heads;
  said.attention.qkv_bias = true;
  said.router.normalize_weights = false;
  said.shared_expert_dim = options.shared_expert_dim;
  said.shared_expert_gate = true;
  say_scaling(said, options);
  return {.name = "qwen2moe", .computes = said, .head_required = true};
}

GgufArchitecture qwen3(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.qk_norm = true;
  say_scaling(said, options);
  return {.name = options.num_experts > 0 ? "qwen3moe" : "qwen3", .computes = said};
}

GgufArchitecture olmo2(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.head_dim = options.model_dim / options.attention.num_heads;
  said.attention.qk_norm = true;
  said.attention.qk_norm_kind = QKNorm::full;
  said.norm_placement = NormPlacement::after;
  say_scaling(said, options);
  return {.name = "olmo2", .computes = said, .head_required = true};
}

GgufArchitecture olmoe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.head_dim = options.model_dim / options.attention.num_heads;
  said.attention.qk_norm = true;
  said.attention.qk_norm_kind = QKNorm::full;
  said.router.normalize_weights = false;
  say_scaling(said, options);
  return {.name = "olmoe", .computes = said, .head_required = true};
}

GgufArchitecture granite_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.bias = options.attention.bias;
  said.embedding_multiplier = options.embedding_multiplier;
  said.residual_multiplier = options.residual_multiplier;
  said.logits_multiplier = options.logits_multiplier;
  said.attention.multiplier = options.attention.multiplier;
  said.shared_expert_dim = options.shared_expert_dim;
  say_scaling(said, options);
  return {.name = "granitemoe", .computes = said, .rotary_pairs = true, .multipliers = true};
}

GgufArchitecture dots1(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.num_kv_heads = options.attention.num_heads; // it has no grouped ones
  said.attention.head_dim = options.model_dim / options.attention.num_heads;
  said.attention.qk_norm = true;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {.name = "dots1", .computes = said, .head_required = true};
}

GgufArchitecture glm4_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.qk_norm = options.attention.qk_norm;
  said.attention.qkv_bias = options.attention.qkv_bias;
  said.rotary.dim = options.rotary.dim;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {.name = "glm4moe", .computes = said, .feed_forward_norm = "post_attention_norm"};
}

GgufArchitecture minimax_m2(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.qk_norm = true;
  said.attention.qk_norm_kind = QKNorm::full;
  said.rotary.dim = options.rotary.dim;
  say_sigmoid_router(said, options);
  said.dense_layers.clear();
  said.shared_expert_dim = 0;
  said.router.normalize_weights = true;
  said.router.routed_scaling_factor = 1.0;
  say_scaling(said, options);
  return {.name = "minimax-m2", .computes = said, .head_required = true};
}

GgufArchitecture ernie4_5_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  say_sigmoid_router(said, options);
  said.router.score = RouterScore::softmax;
  said.router.normalize_weights = true;
  said.router.routed_scaling_factor = 1.0;
  say_scaling(said, options);
  return {.name = "ernie4_5-moe", .computes = said, .rotary_pairs = true};
}

GgufArchitecture gpt_oss(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.bias = true;
  said.attention.sinks = true;
  said.attention.sliding_window = options.attention.sliding_window;
  for (int64_t layer = 1; layer < options.num_layers; layer += 2) {
    said.full_attention_layers.push_back(layer);
  }
  said.router.bias = true;
  said.expert_bias = true;
  said.expert.limit = 7.0;
  said.expert.sigmoid_scale = 1.702;
  said.expert.offset = 1.0;
  say_scaling(said, options);
  // llama.cpp knows no other than whole bounds; for published models, whose bounds are not, it
  // turns some frequencies a little otherwise.
  said.rotary.truncate = options.rotary.truncate;
  return {
      .name = "gpt-oss",
      .computes = said,
      .head_required = true,
      .feed_forward_norm = "post_attention_norm"};
}

void say_latent_attention(DecoderOptions& said, const DecoderOptions& options) {
  said.attention.query_latent_dim = options.attention.query_latent_dim;
  said.attention.key_value_latent_dim = options.attention.key_value_latent_dim;
  said.attention.value_head_dim = options.attention.value_head_dim;
  said.rotary.dim = options.rotary.dim;
  // The norms of latent vectors have 1e-6 for it, in llama.cpp what all others have; up to 1e-5
  // the difference is too small to matter.
  said.norm.epsilon = options.norm.epsilon <= 1e-5 ? options.norm.epsilon : 1e-6;
  say_scaling(said, options);
}

GgufArchitecture latent_experts(const char* name, const DecoderOptions& options) {
  auto said = said_by_all(options);
  say_latent_attention(said, options);
  say_dense_and_shared(said, options);
  say_groups(said, options);
  said.router.normalize_weights = options.router.normalize_weights;
  said.router.routed_scaling_factor = options.router.routed_scaling_factor;
  return {.name = name, .computes = said, .rotary_pairs = true};
}

GgufArchitecture deepseek_v2(const DecoderOptions& options) {
  auto architecture = latent_experts("deepseek2", options);
  // The file has one number for both.
  architecture.computes.rotary.mscale = options.rotary.mscale_all_dim;
  architecture.computes.rotary.mscale_all_dim = options.rotary.mscale_all_dim;
  return architecture;
}

GgufArchitecture deepseek_v3(const DecoderOptions& options) {
  auto architecture = deepseek_v2(options);
  auto& said = architecture.computes;
  said.router.score = RouterScore::sigmoid;
  said.router.selection_bias = true;
  said.router.normalize_minimum = options.router.normalize_minimum; // too small to matter
  return architecture;
}

GgufArchitecture mistral4(const DecoderOptions& options) {
  auto architecture = latent_experts("mistral4", options);
  auto& said = architecture.computes;
  said.rotary.mscale = options.rotary.mscale_all_dim != 0.0 ? 1.0 : 0.0;
  said.rotary.mscale_all_dim = options.rotary.mscale_all_dim;
  said.attention.query_growth = options.attention.query_growth;
  said.attention.query_growth_length = options.attention.query_growth_length;
  return architecture;
}

GgufArchitecture llama4(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.chunk = 8192;
  said.full_attention_layers = fourth_layers(options);
  said.no_rope_layers = said.full_attention_layers;
  said.attention.query_growth = said.no_rope_layers.empty() ? 0.0 : 0.1;
  said.attention.qk_norm = options.num_experts != 128; // it takes these for Maverick
  said.attention.qk_norm_kind = QKNorm::unweighted;
  said.shared_expert_dim = options.expert_dim;
  said.router.score = RouterScore::sigmoid;
  said.router.normalize_weights = false;
  said.router.weights_on_input = true;
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
  said.attention.qk_norm = true;
  said.attention.qk_norm_after_rope = true;
  said.shared_expert_dim = options.shared_expert_dim;
  say_scaling(said, options);
  return {.name = "hunyuan-moe", .computes = said};
}

GgufArchitecture exaone_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.attention.qk_norm = true;
  said.attention.sliding_window = options.attention.sliding_window;
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
  said.attention.qk_norm = true;
  said.norm_placement = NormPlacement::both;
  said.attention.gate = AttentionGate::sigmoid;
  said.attention.sliding_window = options.attention.sliding_window;
  said.full_attention_layers = fourth_layers(options);
  said.no_rope_layers = said.full_attention_layers;
  say_sigmoid_router(said, options);
  say_scaling(said, options);
  return {.name = "afmoe", .computes = said, .head_required = true};
}

GgufArchitecture cohere2_moe(const DecoderOptions& options) {
  auto said = said_by_all(options);
  said.norm.kind = options.norm.kind == NormKind::rms ? NormKind::rms : NormKind::layer;
  said.norm_placement = NormPlacement::parallel;
  said.logits_multiplier = options.logits_multiplier;
  said.attention.sliding_window = options.attention.sliding_window;
  said.full_attention_layers = options.full_attention_layers;
  say_dense_and_shared(said, options);
  for (const int64_t layer : options.full_attention_layers) {
    if (!names_layer(said.dense_layers, layer)) {
      said.no_rope_layers.push_back(layer);
    }
  }
  said.moe_output_multiplier = said.shared_expert_dim > 0 ? 0.5 : 1.0;
  said.router.score = options.router.score == RouterScore::sigmoid ? RouterScore::sigmoid
                                                                   : RouterScore::softmax;
  said.router.normalize_weights = options.router.normalize_weights;
  said.router.normalize_minimum = options.router.normalize_minimum;
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
  said.attention.head_dim = options.model_dim / options.attention.num_heads;
  said.norm.kind = NormKind::layer;
  said.attention.clip_qkv = options.attention.clip_qkv;
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
