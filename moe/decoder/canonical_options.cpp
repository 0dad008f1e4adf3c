#include <algorithm>
#include <cmath>

#include "moe/decoder/decoder_options.h"

namespace moe {
namespace {

// Lists with one value per layer that are all the same say nothing.
template <class T>
void drop_uniform(std::vector<T>& values, const T& common) {
  if (std::all_of(values.begin(), values.end(), [&](const T& v) { return v == common; })) {
    values.clear();
  }
}

void sort_layers(std::vector<int64_t>& layers) {
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
}

void drop_unused_attention(DecoderOptions& options) {
  const DecoderOptions defaults;
  drop_uniform(options.layer_num_heads, options.num_heads);
  if (!options.qk_norm) {
    options.qk_norm_kind = defaults.qk_norm_kind;
  }
  if (!options.qk_norm || options.qk_norm_kind == "unweighted") {
    options.qk_norm_after_rope = defaults.qk_norm_after_rope;
  }
  options.qkv_bias = options.qkv_bias && !options.attention_bias;
  if (!has_latent_attention(options) && options.attention_multiplier == 0.0) {
    options.attention_multiplier =
        1.0 / std::sqrt(static_cast<double>(resolved_head_dim(options)));
  }
  if (static_cast<int64_t>(options.full_attention_layers.size()) == options.num_layers) {
    options.sliding_window = options.attention_chunk = 0;
  }
  if (options.sliding_window == 0 && options.attention_chunk == 0) {
    options.full_attention_layers.clear();
  }
  if (options.query_growth == 0.0) {
    options.query_growth_length = defaults.query_growth_length;
  }
  if (has_latent_attention(options)) {
    options.value_head_dim = resolved_value_dim(options);
  }
}

void drop_unused_rope(DecoderOptions& options) {
  const DecoderOptions defaults;
  for (const int64_t layer : options.no_rope_layers) {
    if (!options.layer_rope_theta.empty()) {
      options.layer_rope_theta.at(static_cast<size_t>(layer)) = options.rope_theta;
    }
  }
  drop_uniform(options.layer_rope_theta, options.rope_theta);
  const int64_t rotary = options.rotary_dim == 0 ? options.head_dim : options.rotary_dim;
  for (int64_t& dim : options.layer_rotary_dim) {
    dim = dim == 0 ? options.head_dim : dim;
  }
  options.rotary_dim = rotary;
  drop_uniform(options.layer_rotary_dim, rotary);
  if (static_cast<int64_t>(options.rope_unscaled_layers.size()) == options.num_layers) {
    options.rope_scaling = "none";
  }
  const std::string& scaling = options.rope_scaling;
  const auto reset_unless = [](bool used, auto& field, const auto& value) {
    if (!used) {
      field = value;
    }
  };
  const bool scaled = scaling != "none";
  const bool yarn = scaling == "yarn";
  const bool longrope = scaling == "longrope";
  const bool llama3 = scaling == "llama3";
  if (options.rope_original_length == 0) {
    options.rope_original_length = options.context_length;
  }
  reset_unless(scaled, options.rope_unscaled_layers, defaults.rope_unscaled_layers);
  reset_unless(scaled, options.rope_factor, defaults.rope_factor);
  reset_unless(
      yarn || longrope || llama3, options.rope_original_length, defaults.rope_original_length);
  reset_unless(llama3, options.rope_low_frequency_factor, defaults.rope_low_frequency_factor);
  reset_unless(llama3, options.rope_high_frequency_factor, defaults.rope_high_frequency_factor);
  reset_unless(yarn, options.rope_beta_fast, defaults.rope_beta_fast);
  reset_unless(yarn, options.rope_beta_slow, defaults.rope_beta_slow);
  reset_unless(yarn, options.rope_truncate, defaults.rope_truncate);
  reset_unless(yarn, options.rope_mscale, defaults.rope_mscale);
  reset_unless(yarn, options.rope_mscale_all_dim, defaults.rope_mscale_all_dim);
  reset_unless(yarn || longrope, options.rope_attention_factor, defaults.rope_attention_factor);
  reset_unless(longrope, options.rope_short_factors, defaults.rope_short_factors);
  reset_unless(longrope, options.rope_long_factors, defaults.rope_long_factors);
  reset_unless(longrope, options.rope_short_multiplier, defaults.rope_short_multiplier);
  reset_unless(longrope, options.rope_long_multiplier, defaults.rope_long_multiplier);
}

void drop_unused_routing(DecoderOptions& options) {
  const DecoderOptions defaults;
  const bool by_groups = options.router_selection == "groups_by_max" ||
                         options.router_selection == "groups_by_top2";
  // One group is no group.
  if (by_groups && options.router_groups <= 1) {
    options.router_selection = "top_k";
  }
  if (!by_groups || options.router_groups <= 1) {
    options.router_groups = defaults.router_groups;
    options.router_groups_kept = defaults.router_groups_kept;
  }
  if (options.router_gate == "linear") {
    options.router_cosine_dim = defaults.router_cosine_dim;
    options.router_cosine_temperature = defaults.router_cosine_temperature;
  }
  if (options.router_weighting == "softmax" && options.router_score == "softmax") {
    // The same numbers: softmax scores divided by their sum.
    options.router_weighting = "scores";
    options.normalize_weights = true;
    options.normalize_power = defaults.normalize_power;
    options.normalize_minimum = defaults.normalize_minimum;
  }
  const bool by_scores = options.router_weighting == "scores";
  if (!by_scores) {
    options.normalize_weights = defaults.normalize_weights;
  }
  if (options.router_weighting != "sparsemixer") {
    options.sparsemixer_jitter = defaults.sparsemixer_jitter;
  }
  if (!by_scores || !options.normalize_weights) {
    options.normalize_power = defaults.normalize_power;
    options.normalize_minimum = defaults.normalize_minimum;
  }
  if (options.capacity_factor == 0.0) {
    options.capacity_drop = defaults.capacity_drop;
  }
  // The permission is not part of the model.
  options.router_sees_future = depends_on_future(options);
}

// A list says something only of layers with experts, and only if they differ.
void drop_uniform_experts(DecoderOptions& options) {
  int64_t most = 0;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    most = std::max(most, layer_experts(options, layer));
  }
  options.num_experts = most;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (!options.layer_num_experts.empty() && names_layer(options.dense_layers, layer)) {
      options.layer_num_experts[static_cast<size_t>(layer)] = most;
    }
  }
  drop_uniform(options.layer_num_experts, most);
}

void drop_unused_experts(DecoderOptions& options) {
  const DecoderOptions defaults;
  drop_uniform_experts(options);
  if (options.num_experts == 0) {
    options.layer_num_experts.clear();
    options.experts_per_token = defaults.experts_per_token;
    options.expert_dim = defaults.expert_dim;
    options.dense_layers.clear();
    options.shared_expert_dim = 0;
    options.feed_forward_bias = options.feed_forward_bias || options.expert_bias;
    options.expert_bias = false;
    options.moe_output_norm = false;
    options.moe_output_multiplier = 1.0;
    options.normalize_weights = defaults.normalize_weights;
    options.routed_scaling_factor = defaults.routed_scaling_factor;
    options.router_score = defaults.router_score;
    options.router_bias = false;
    options.router_logit_cap = 0.0;
    options.router_selection = defaults.router_selection;
    options.router_selection_bias = false;
    options.router_weighting = defaults.router_weighting;
    options.router_gate = defaults.router_gate;
    options.router_jitter = 0.0;
    options.router_noise = defaults.router_noise;
    options.capacity_factor = 0.0;
    options.weights_on_input = false;
  } else if (options.dense_layers.empty()) {
    options.dense_dim = defaults.dense_dim;
  }
  options.shared_expert_gate = options.shared_expert_gate && options.shared_expert_dim > 0;
  const bool any_shared_form = options.num_experts == 0 || !options.dense_layers.empty() ||
                               options.shared_expert_dim > 0;
  options.feed_forward_bias =
      options.feed_forward_bias && any_shared_form && !options.expert_bias;
  drop_unused_routing(options);
}

} // namespace

DecoderOptions canonical(const DecoderOptions& options) {
  DecoderOptions result = options;
  result.num_kv_heads = resolved_num_kv_heads(options);
  result.head_dim = resolved_head_dim(options);
  for (auto* layers :
       {&result.full_attention_layers,
        &result.no_rope_layers,
        &result.rope_unscaled_layers,
        &result.dense_layers}) {
    sort_layers(*layers);
  }
  drop_unused_attention(result);
  drop_unused_rope(result);
  drop_unused_experts(result);
  return result;
}

} // namespace moe
