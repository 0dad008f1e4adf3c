#include <cmath>

#include "moe/decoder/decoder_options.h"
#include "moe/error.h"
#include "moe/kernels/expert_form.h"
#include "moe/layers/router_methods.h"
#include "moe/option_checks_internal.h"

namespace moe {
namespace {

void check_layers(
    const char* name, const std::vector<int64_t>& layers, const DecoderOptions& options) {
  for (const int64_t layer : layers) {
    check(
        layer >= 0 && layer < options.num_layers,
        name,
        ": there is no layer ",
        layer,
        "; layers are 0 to ",
        options.num_layers - 1);
  }
}

template <class T>
void check_one_per_layer(
    const char* name, const std::vector<T>& values, const DecoderOptions& options) {
  check(
      values.empty() || static_cast<int64_t>(values.size()) == options.num_layers,
      name,
      ": ",
      values.size(),
      " values for ",
      options.num_layers,
      " layers; one per layer, or none");
}

void check_finite(const char* name, double value) {
  check_option(std::isfinite(value), name, value, "a finite number");
}

void check_heads(const DecoderOptions& options) {
  check_at_least(1, "num_heads", options.num_heads);
  check_at_least(0, "num_kv_heads", options.num_kv_heads);
  check_at_least(0, "head_dim", options.head_dim);
  check(
      options.head_dim > 0 || options.model_dim % options.num_heads == 0,
      "num_heads: ",
      options.num_heads,
      " does not divide model_dim (",
      options.model_dim,
      "); choose a divisor or set head_dim");
  check_one_per_layer("layer_num_heads", options.layer_num_heads, options);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const int64_t heads = layer_heads(options, layer);
    check_at_least(1, "layer_num_heads", heads);
    check(
        heads % resolved_num_kv_heads(options) == 0,
        "num_kv_heads: ",
        resolved_num_kv_heads(options),
        " does not divide num_heads (",
        heads,
        ")");
  }
  check(
      resolved_head_dim(options) % 2 == 0,
      "head_dim: ",
      resolved_head_dim(options),
      " is odd; rotary positions need an even width");
}

void check_latent_attention(const DecoderOptions& options) {
  check_at_least(0, "query_latent_dim", options.query_latent_dim);
  check_at_least(0, "key_value_latent_dim", options.key_value_latent_dim);
  check_at_least(0, "value_head_dim", options.value_head_dim);
  if (!has_latent_attention(options)) {
    check(
        options.query_latent_dim == 0 && options.value_head_dim == 0,
        "query_latent_dim, value_head_dim: need a key_value_latent_dim");
    return;
  }
  const int64_t rotary = resolved_rotary_dim(options, 0);
  check(
      rotary < resolved_head_dim(options),
      "rotary_dim: ",
      rotary,
      " leaves nothing of head_dim (",
      resolved_head_dim(options),
      ") to latent attention");
  check(
      resolved_value_dim(options) <= resolved_head_dim(options),
      "value_head_dim: ",
      options.value_head_dim,
      " is more than head_dim (",
      resolved_head_dim(options),
      ")");
  check(
      resolved_num_kv_heads(options) == options.num_heads && options.layer_num_heads.empty() &&
          options.layer_rotary_dim.empty(),
      "key_value_latent_dim: latent attention has as many key as query heads, and the same in "
      "every layer");
  check(
      !options.qk_norm && !options.qkv_bias && !options.attention_sinks &&
          options.clip_qkv == 0.0 && options.attention_gate == "none" &&
          options.sliding_window == 0 && options.attention_chunk == 0,
      "key_value_latent_dim: latent attention goes without qk_norm, qkv_bias, attention_sinks, "
      "clip_qkv, attention_gate, sliding_window and attention_chunk");
}

void check_attention(const DecoderOptions& options) {
  check_one_of({"head", "full", "unweighted"}, "qk_norm_kind", options.qk_norm_kind);
  check_one_of(
      {"none", "sigmoid", "softplus", "softplus_per_head"},
      "attention_gate",
      options.attention_gate);
  check_number_not_negative("clip_qkv", options.clip_qkv);
  check_finite("attention_multiplier", options.attention_multiplier);
  check_at_least(0, "sliding_window", options.sliding_window);
  check_at_least(0, "attention_chunk", options.attention_chunk);
  check(
      options.sliding_window == 0 || options.attention_chunk == 0,
      "attention_chunk: cannot be had together with sliding_window");
  check_layers("full_attention_layers", options.full_attention_layers, options);
  check_finite("query_growth", options.query_growth);
  check_at_least(1, "query_growth_length", options.query_growth_length);
}

void check_rope_scaling(const DecoderOptions& options) {
  const std::string& scaling = options.rope_scaling;
  check_one_of(
      {"none", "linear", "dynamic", "llama3", "yarn", "longrope"}, "rope_scaling", scaling);
  check_number_above_zero("rope_factor", options.rope_factor);
  check_at_least(0, "rope_original_length", options.rope_original_length);
  check_layers("rope_unscaled_layers", options.rope_unscaled_layers, options);
  check_number_above_zero("rope_low_frequency_factor", options.rope_low_frequency_factor);
  check_number_above_zero("rope_high_frequency_factor", options.rope_high_frequency_factor);
  check(
      scaling != "llama3" ||
          options.rope_high_frequency_factor > options.rope_low_frequency_factor,
      "rope_high_frequency_factor: must be above rope_low_frequency_factor");
  check_number_above_zero("rope_beta_fast", options.rope_beta_fast);
  check_number_above_zero("rope_beta_slow", options.rope_beta_slow);
  check_number_not_negative("rope_mscale", options.rope_mscale);
  check_number_not_negative("rope_mscale_all_dim", options.rope_mscale_all_dim);
  check_number_not_negative("rope_attention_factor", options.rope_attention_factor);
  check_number_not_negative("rope_short_multiplier", options.rope_short_multiplier);
  check_number_not_negative("rope_long_multiplier", options.rope_long_multiplier);
  check(
      scaling != "dynamic" || resolved_rotary_dim(options, 0) > 2,
      "rope_scaling: dynamic needs a rotary_dim above 2");
  if (scaling == "longrope") {
    const auto pairs = static_cast<size_t>(resolved_rotary_dim(options, 0) / 2);
    for (const auto* factors : {&options.rope_short_factors, &options.rope_long_factors}) {
      check(
          factors->size() == pairs,
          "rope_short_factors, rope_long_factors: ",
          factors->size(),
          " factors for ",
          pairs,
          " pairs; one for each");
      for (const double factor : *factors) {
        check_number_above_zero("rope_short_factors, rope_long_factors", factor);
      }
    }
  }
}

void check_rope(const DecoderOptions& options) {
  check_number_above_zero("rope_theta", options.rope_theta);
  check_one_per_layer("layer_rope_theta", options.layer_rope_theta, options);
  check_one_per_layer("layer_rotary_dim", options.layer_rotary_dim, options);
  check_layers("no_rope_layers", options.no_rope_layers, options);
  for (const double theta : options.layer_rope_theta) {
    check_number_above_zero("layer_rope_theta", theta);
  }
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const int64_t rotary = resolved_rotary_dim(options, layer);
    check(
        rotary >= 2 && rotary % 2 == 0 && rotary <= resolved_head_dim(options),
        "rotary_dim: ",
        rotary,
        " is not an even number from 2 to head_dim (",
        resolved_head_dim(options),
        ")");
  }
  check_rope_scaling(options);
}

RouterMethods router_methods(const DecoderOptions& options) {
  return {
      .score = router_score_from_name(options.router_score),
      .selection = router_selection_from_name(options.router_selection),
      .weighting = router_weighting_from_name(options.router_weighting),
      .selection_bias = options.router_selection_bias,
      .normalize_weights = options.normalize_weights,
      .capacity_factor = options.capacity_factor,
      .num_experts = options.num_experts,
      .experts_per_token = options.experts_per_token,
      .groups = options.router_groups,
      .groups_kept = options.router_groups_kept};
}

// Training by what generation does not have is a mistake, unless it is meant.
void check_future(const DecoderOptions& options) {
  if (options.router_sees_future || !depends_on_future(options)) {
    return;
  }
  const std::string consequence =
      ", so that in training a token's experts depend on tokens after it, which there are not "
      "when text is generated; set router_sees_future to do so all the same";
  const bool by_score = options.capacity_factor > 0.0 && options.capacity_drop == "score";
  check(
      !by_score,
      "capacity_drop: by score, rows of later tokens push out those of earlier ones",
      consequence);
  fail(
      "router_selection: ",
      options.router_selection,
      options.router_selection == "sinkhorn"
          ? " balances experts over all tokens of a batch"
          : " lets experts choose among all tokens of a batch",
      consequence);
}

void check_router(const DecoderOptions& options) {
  router_gate_from_name(options.router_gate);
  router_noise_from_name(options.router_noise);
  capacity_drop_from_name(options.capacity_drop);
  check_at_least(0, "router_cosine_dim", options.router_cosine_dim);
  check_number_above_zero("router_cosine_temperature", options.router_cosine_temperature);
  check_option(
      options.router_jitter >= 0.0 && options.router_jitter < 1.0,
      "router_jitter",
      options.router_jitter,
      "a number from 0 to below 1");
  check_number_not_negative("router_logit_cap", options.router_logit_cap);
  check_number_not_negative("sparsemixer_jitter", options.sparsemixer_jitter);
  check_number_above_zero("normalize_power", options.normalize_power);
  check_number_not_negative("normalize_minimum", options.normalize_minimum);
  check_number_not_negative("capacity_factor", options.capacity_factor);
  check_finite("routed_scaling_factor", options.routed_scaling_factor);
  check_finite("moe_output_multiplier", options.moe_output_multiplier);
  const auto conflict = router_conflict(router_methods(options));
  check(conflict.empty(), conflict);
  check_future(options);
}

void check_layer_experts(const DecoderOptions& options) {
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const int64_t experts = layer_experts(options, layer);
    check(
        !is_moe_layer(options, layer) ||
            (experts >= options.experts_per_token && experts <= options.num_experts),
        "layer_num_experts: ",
        experts,
        " of layer ",
        layer,
        " is not in experts_per_token (",
        options.experts_per_token,
        ") to num_experts (",
        options.num_experts,
        ")");
  }
  check(
      options.layer_num_experts.empty() || options.router_selection == "top_k",
      "layer_num_experts: layers with different numbers of experts need the router_selection "
      "top_k, not ",
      options.router_selection);
}

void check_experts(const DecoderOptions& options) {
  check_at_least(0, "num_experts", options.num_experts);
  check_at_least(0, "shared_expert_dim", options.shared_expert_dim);
  activation_from_name(options.activation);
  check_number_not_negative("activation_limit", options.activation_limit);
  check_finite("activation_sigmoid_scale", options.activation_sigmoid_scale);
  check_finite("activation_offset", options.activation_offset);
  check_layers("dense_layers", options.dense_layers, options);
  bool any_dense = false;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    any_dense = any_dense || !is_moe_layer(options, layer);
  }
  if (any_dense) {
    check_at_least(1, "dense_dim", options.dense_dim);
  }
  check_one_per_layer("layer_num_experts", options.layer_num_experts, options);
  if (options.num_experts > 0) {
    check_at_least(1, "expert_dim", options.expert_dim);
    check(
        options.experts_per_token >= 1 && options.experts_per_token <= options.num_experts,
        "experts_per_token: ",
        options.experts_per_token,
        " is not in 1 to num_experts (",
        options.num_experts,
        ")");
    check_router(options);
    check_layer_experts(options);
  }
}

} // namespace

void validate(const DecoderOptions& options) {
  check_at_least(1, "vocab_size", options.vocab_size);
  check_at_least(1, "context_length", options.context_length);
  check_at_least(1, "model_dim", options.model_dim);
  check_at_least(1, "num_layers", options.num_layers);
  check_finite("embedding_multiplier", options.embedding_multiplier);
  check_finite("residual_multiplier", options.residual_multiplier);
  check_finite("logits_multiplier", options.logits_multiplier);
  check_heads(options);
  check_attention(options);
  check_rope(options);
  check_latent_attention(options);
  check_number_above_zero("norm_epsilon", options.norm_epsilon);
  check_one_of({"rms", "layer", "layer_bias"}, "norm", options.norm);
  check_one_of(
      {"before", "after", "both", "parallel"}, "norm_placement", options.norm_placement);
  check_experts(options);
  check(
      std::isfinite(options.initializer_range) && options.initializer_range >= 0.0,
      "initializer_range: ",
      options.initializer_range,
      " is not possible; a number of at least 0");
}

} // namespace moe
