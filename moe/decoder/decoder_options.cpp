#include "moe/decoder/decoder_options.h"

#include <algorithm>
#include <cmath>

#include "moe/decoder/decoder_tensors.h"
#include "moe/error.h"
#include "moe/kernels/expert_form.h"
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

void check_router(const DecoderOptions& options) {
  check_one_of({"softmax", "sigmoid"}, "router_score", options.router_score);
  check_one_of(
      {"top_k", "groups_by_max", "groups_by_top2"},
      "router_selection",
      options.router_selection);
  check_one_of({"scores", "sparsemixer"}, "router_weighting", options.router_weighting);
  check_number_not_negative("router_logit_cap", options.router_logit_cap);
  check_number_not_negative("sparsemixer_jitter", options.sparsemixer_jitter);
  check_number_above_zero("normalize_power", options.normalize_power);
  check_number_not_negative("normalize_minimum", options.normalize_minimum);
  check_finite("routed_scaling_factor", options.routed_scaling_factor);
  check_finite("moe_output_multiplier", options.moe_output_multiplier);
  check(
      options.router_weighting == "scores" || options.experts_per_token == 2,
      "experts_per_token: ",
      options.experts_per_token,
      " is not possible with sparsemixer, which chooses two");
  if (options.router_selection == "top_k") {
    return;
  }
  const int64_t groups = options.router_groups;
  check(
      groups >= 1 && options.num_experts % groups == 0,
      "router_groups: ",
      groups,
      " does not divide num_experts (",
      options.num_experts,
      ")");
  check(
      options.router_groups_kept >= 1 && options.router_groups_kept <= groups &&
          options.experts_per_token <=
              options.num_experts / groups * options.router_groups_kept,
      "router_groups_kept: ",
      options.router_groups_kept,
      " groups do not hold experts_per_token (",
      options.experts_per_token,
      ") experts, or there are not so many");
  check(
      options.router_selection == "groups_by_max" || options.num_experts / groups >= 2,
      "router_groups: ",
      groups,
      " leaves no two experts to a group");
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
  }
}

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

void drop_unused_experts(DecoderOptions& options) {
  const DecoderOptions defaults;
  if (static_cast<int64_t>(options.dense_layers.size()) == options.num_layers) {
    options.num_experts = 0;
  }
  if (options.num_experts == 0) {
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
    options.weights_on_input = false;
  } else if (options.dense_layers.empty()) {
    options.dense_dim = defaults.dense_dim;
  }
  options.shared_expert_gate = options.shared_expert_gate && options.shared_expert_dim > 0;
  const bool any_shared_form = options.num_experts == 0 || !options.dense_layers.empty() ||
                               options.shared_expert_dim > 0;
  options.feed_forward_bias =
      options.feed_forward_bias && any_shared_form && !options.expert_bias;
  // One group is no group.
  if (options.router_groups <= 1) {
    options.router_selection = "top_k";
  }
  if (options.router_selection == "top_k") {
    options.router_groups = defaults.router_groups;
    options.router_groups_kept = defaults.router_groups_kept;
  }
  if (options.router_weighting == "sparsemixer") {
    options.normalize_weights = defaults.normalize_weights;
  } else {
    options.sparsemixer_jitter = defaults.sparsemixer_jitter;
  }
  if (!options.normalize_weights || options.router_weighting == "sparsemixer") {
    options.normalize_power = defaults.normalize_power;
    options.normalize_minimum = defaults.normalize_minimum;
  }
}

} // namespace

int64_t layer_heads(const DecoderOptions& options, int64_t layer) {
  return options.layer_num_heads.empty()
             ? options.num_heads
             : options.layer_num_heads.at(static_cast<size_t>(layer));
}

int64_t resolved_num_kv_heads(const DecoderOptions& options) {
  return options.num_kv_heads == 0 ? options.num_heads : options.num_kv_heads;
}

int64_t resolved_head_dim(const DecoderOptions& options) {
  return options.head_dim == 0 ? options.model_dim / options.num_heads : options.head_dim;
}

int64_t resolved_rotary_dim(const DecoderOptions& options, int64_t layer) {
  const int64_t dim = options.layer_rotary_dim.empty()
                          ? options.rotary_dim
                          : options.layer_rotary_dim.at(static_cast<size_t>(layer));
  return dim == 0 ? resolved_head_dim(options) : dim;
}

int64_t resolved_value_dim(const DecoderOptions& options) {
  return options.value_head_dim == 0 ? resolved_head_dim(options) : options.value_head_dim;
}

bool has_latent_attention(const DecoderOptions& options) {
  return options.key_value_latent_dim > 0;
}

bool names_layer(const std::vector<int64_t>& layers, int64_t layer) {
  return std::find(layers.begin(), layers.end(), layer) != layers.end();
}

bool is_moe_layer(const DecoderOptions& options, int64_t layer) {
  return options.num_experts > 0 && !names_layer(options.dense_layers, layer);
}

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

DecoderOptions plain_form(const DecoderOptions& options) {
  DecoderOptions plain;
  plain.vocab_size = options.vocab_size;
  plain.context_length = options.context_length;
  plain.model_dim = options.model_dim;
  plain.num_layers = options.num_layers;
  plain.tie_embeddings = options.tie_embeddings;
  plain.num_heads = options.num_heads;
  plain.num_kv_heads = options.num_kv_heads;
  plain.head_dim = options.head_dim;
  plain.qk_norm = options.qk_norm;
  plain.attention_bias = options.attention_bias;
  plain.sliding_window = options.sliding_window;
  plain.rope_theta = options.rope_theta;
  plain.norm_epsilon = options.norm_epsilon;
  plain.num_experts = options.num_experts;
  plain.experts_per_token = options.experts_per_token;
  plain.expert_dim = options.expert_dim;
  plain.dense_layers = options.dense_layers;
  plain.dense_dim = options.dense_dim;
  plain.shared_expert_dim = options.shared_expert_dim;
  plain.shared_expert_gate = options.shared_expert_gate;
  plain.activation = options.activation;
  plain.gated = options.gated;
  plain.expert_bias = options.expert_bias;
  plain.normalize_weights = options.normalize_weights;
  plain.routed_scaling_factor = options.routed_scaling_factor;
  plain.initializer_range = options.initializer_range;
  return plain;
}

bool has_plain_form(const DecoderOptions& options) {
  const DecoderOptions given = canonical(options);
  return given == canonical(plain_form(given));
}

ParameterCount count_parameters(const DecoderOptions& options) {
  ParameterCount count;
  for (const NamedShape& tensor : decoder_tensors(options)) {
    if (is_buffer(tensor.name)) {
      continue;
    }
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) {
      elements *= size;
    }
    // What is stacked for all experts: "layers.3.moe.down_proj".
    const size_t moe = tensor.name.find(".moe.");
    const bool stacked =
        moe != std::string::npos && tensor.name.find('.', moe + 5) == std::string::npos;
    count.total += elements;
    count.active +=
        stacked ? elements / options.num_experts * options.experts_per_token : elements;
  }
  return count;
}

} // namespace moe
