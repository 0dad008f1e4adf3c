#include "moe/decoder/decoder_block.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace moe {
namespace {

/// Initial weights that write into the residual stream shrink with its depth, as in GPT-2.
double residual_range(const DecoderOptions& options) {
  return options.initializer_range / std::sqrt(2.0 * static_cast<double>(options.num_layers));
}

RMSNormOptions norm_options(const DecoderOptions& options) {
  return RMSNormOptions(options.model_dim)
      .epsilon(options.norm_epsilon)
      .center(options.norm != "rms")
      .bias(options.norm == "layer_bias");
}

QKNorm qk_norm_kind(const std::string& name) {
  return name == "full"         ? QKNorm::full
         : name == "unweighted" ? QKNorm::unweighted
                                : QKNorm::head;
}

AttentionGate attention_gate(const std::string& name) {
  return name == "sigmoid"             ? AttentionGate::sigmoid
         : name == "softplus"          ? AttentionGate::softplus
         : name == "softplus_per_head" ? AttentionGate::softplus_per_head
                                       : AttentionGate::none;
}

CausalSelfAttentionOptions attention_options(const DecoderOptions& options, int64_t layer) {
  const bool full = names_layer(options.full_attention_layers, layer);
  const bool turns = !names_layer(options.no_rope_layers, layer);
  return CausalSelfAttentionOptions(options.model_dim, layer_heads(options, layer))
      .num_kv_heads(resolved_num_kv_heads(options))
      .head_dim(resolved_head_dim(options))
      .qk_norm(options.qk_norm && (turns || options.qk_norm_kind != "unweighted"))
      .qk_norm_kind(qk_norm_kind(options.qk_norm_kind))
      .qk_norm_after_rotary(options.qk_norm_after_rope)
      .bias(options.attention_bias)
      .qkv_bias(options.qkv_bias)
      .clip_qkv(options.clip_qkv)
      .scale(options.attention_multiplier)
      .has_sinks(options.attention_sinks)
      .gate(attention_gate(options.attention_gate))
      .sliding_window(full ? 0 : options.sliding_window)
      .chunk(full ? 0 : options.attention_chunk)
      .query_growth(turns ? 0.0 : options.query_growth)
      .query_growth_length(options.query_growth_length)
      .norm_epsilon(options.norm_epsilon)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

LatentAttentionOptions latent_attention_options(const DecoderOptions& options, int64_t layer) {
  const auto head_dim = static_cast<double>(resolved_head_dim(options));
  const double scale = options.attention_multiplier != 0.0 ? options.attention_multiplier
                                                           : 1.0 / std::sqrt(head_dim);
  return LatentAttentionOptions(options.model_dim, options.num_heads)
      .head_dim(resolved_head_dim(options))
      .rotary_dim(resolved_rotary_dim(options, layer))
      .value_head_dim(resolved_value_dim(options))
      .query_latent_dim(options.query_latent_dim)
      .key_value_latent_dim(options.key_value_latent_dim)
      .bias(options.attention_bias)
      .scale(scale * yarn_score_multiplier(rotary_form(options, layer)))
      .query_growth(options.query_growth)
      .query_growth_length(options.query_growth_length)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

TopKRouterOptions router_options(const DecoderOptions& options, int64_t layer) {
  return TopKRouterOptions(options.model_dim, layer_experts(options, layer))
      .experts_per_token(options.experts_per_token)
      .gate(router_gate_from_name(options.router_gate))
      .cosine_dim(options.router_cosine_dim)
      .cosine_temperature(options.router_cosine_temperature)
      .bias(options.router_bias)
      .logit_cap(options.router_logit_cap)
      .jitter(options.router_jitter)
      .noise(router_noise_from_name(options.router_noise))
      .score(router_score_from_name(options.router_score))
      .selection(router_selection_from_name(options.router_selection))
      .has_selection_bias(options.router_selection_bias)
      .num_groups(options.router_groups)
      .groups_kept(options.router_groups_kept)
      .hash_seed(layer)
      .weighting(router_weighting_from_name(options.router_weighting))
      .normalize_weights(options.normalize_weights)
      .normalize_power(options.normalize_power)
      .normalize_minimum(options.normalize_minimum)
      .routed_scaling_factor(options.routed_scaling_factor)
      .sparsemixer_jitter(options.sparsemixer_jitter)
      .capacity_factor(options.capacity_factor)
      .capacity_drop(capacity_drop_from_name(options.capacity_drop))
      .initializer_range(options.initializer_range);
}

ExpertOptions feed_forward_options(const DecoderOptions& options) {
  return ExpertOptions(options.model_dim, options.dense_dim)
      .activation(activation_from_name(options.activation))
      .gated(options.gated)
      .bias(options.expert_bias || options.feed_forward_bias)
      .limit(options.activation_limit)
      .sigmoid_scale(options.activation_sigmoid_scale)
      .offset(options.activation_offset)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

RotaryScaling rotary_scaling(const std::string& name) {
  return name == "linear"     ? RotaryScaling::linear
         : name == "dynamic"  ? RotaryScaling::dynamic
         : name == "llama3"   ? RotaryScaling::llama3
         : name == "yarn"     ? RotaryScaling::yarn
         : name == "longrope" ? RotaryScaling::longrope
                              : RotaryScaling::none;
}

} // namespace

SparseMoEBlockOptions moe_block_options(const DecoderOptions& options, int64_t layer) {
  auto result = SparseMoEBlockOptions(options.model_dim, layer_experts(options, layer))
                    .experts_per_token(options.experts_per_token)
                    .expert_dim(options.expert_dim)
                    .activation(activation_from_name(options.activation))
                    .gated(options.gated)
                    .bias(options.expert_bias)
                    .activation_limit(options.activation_limit)
                    .activation_sigmoid_scale(options.activation_sigmoid_scale)
                    .activation_offset(options.activation_offset)
                    .shared_expert_dim(options.shared_expert_dim)
                    .shared_expert_gate(options.shared_expert_gate)
                    .shared_expert_bias(options.feed_forward_bias)
                    .normalize_weights(options.normalize_weights)
                    .routed_scaling_factor(options.routed_scaling_factor)
                    .router(router_options(options, layer))
                    .weights_on_input(options.weights_on_input)
                    .output_multiplier(options.moe_output_multiplier)
                    .initializer_range(options.initializer_range)
                    .output_initializer_range(residual_range(options));
  if (options.moe_output_norm) {
    result.output_norm(norm_options(options));
  }
  return result;
}

RotaryForm rotary_form(const DecoderOptions& options, int64_t layer) {
  RotaryForm form;
  form.dim = resolved_rotary_dim(options, layer);
  form.theta = options.layer_rope_theta.empty()
                   ? options.rope_theta
                   : options.layer_rope_theta.at(static_cast<size_t>(layer));
  if (names_layer(options.rope_unscaled_layers, layer)) {
    return form;
  }
  form.scaling = rotary_scaling(options.rope_scaling);
  form.factor = options.rope_factor;
  form.context_length = options.context_length;
  form.original_length =
      options.rope_original_length == 0 ? options.context_length : options.rope_original_length;
  form.low_frequency_factor = options.rope_low_frequency_factor;
  form.high_frequency_factor = options.rope_high_frequency_factor;
  form.beta_fast = options.rope_beta_fast;
  form.beta_slow = options.rope_beta_slow;
  form.truncate = options.rope_truncate;
  form.mscale = options.rope_mscale;
  form.mscale_all_dim = options.rope_mscale_all_dim;
  form.attention_factor = options.rope_attention_factor;
  form.short_factors = options.rope_short_factors;
  form.long_factors = options.rope_long_factors;
  form.short_multiplier = options.rope_short_multiplier;
  form.long_multiplier = options.rope_long_multiplier;
  return form;
}

std::vector<RotaryTable> rotary_tables(
    const DecoderOptions& options,
    int64_t first,
    int64_t length,
    const torch::TensorOptions& type) {
  std::vector<std::pair<RotaryForm, RotaryTable>> made; // most models have but one
  std::vector<RotaryTable> tables;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (names_layer(options.no_rope_layers, layer)) {
      tables.emplace_back();
      continue;
    }
    const auto form = rotary_form(options, layer);
    auto found = std::find_if(
        made.begin(), made.end(), [&](const auto& pair) { return pair.first == form; });
    if (found == made.end()) {
      made.emplace_back(form, rotary_table(first, length, form, type));
      found = std::prev(made.end());
    }
    tables.push_back(found->second);
  }
  return tables;
}

RMSNorm residual_norm(const DecoderOptions& options) {
  return RMSNorm(norm_options(options));
}

DecoderBlockImpl::DecoderBlockImpl(const DecoderOptions& options_, int64_t layer_)
    : options(options_), layer(layer_) {
  reset();
}

void DecoderBlockImpl::reset() {
  const std::string& placement = options.norm_placement;
  const bool before = placement != "after";
  const bool after = placement == "after" || placement == "both";
  if (before) {
    attention_norm = register_module("attention_norm", residual_norm(options));
  }
  if (has_latent_attention(options)) {
    latent_attention =
        register_module("attention", LatentAttention(latent_attention_options(options, layer)));
  } else {
    attention =
        register_module("attention", CausalSelfAttention(attention_options(options, layer)));
  }
  if (after) {
    attention_output_norm = register_module("attention_output_norm", residual_norm(options));
  }
  if (before && placement != "parallel") {
    feed_forward_norm = register_module("feed_forward_norm", residual_norm(options));
  }
  if (is_moe_layer(options, layer)) {
    moe = register_module("moe", SparseMoEBlock(moe_block_options(options, layer)));
  } else {
    feed_forward = register_module("feed_forward", Expert(feed_forward_options(options)));
  }
  if (after) {
    feed_forward_output_norm =
        register_module("feed_forward_output_norm", residual_norm(options));
  }
}

void DecoderBlockImpl::reset_parameters() {
  for (auto* norm :
       {&attention_norm,
        &attention_output_norm,
        &feed_forward_norm,
        &feed_forward_output_norm}) {
    if (!norm->is_empty()) {
      (*norm)->reset_parameters();
    }
  }
  if (!attention.is_empty()) {
    attention->reset_parameters();
  } else {
    latent_attention->reset_parameters();
  }
  if (!moe.is_empty()) {
    moe->reset_parameters();
  } else {
    feed_forward->reset_parameters();
  }
}

void DecoderBlockImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::DecoderBlock(layer=" << layer << ")";
}

torch::Tensor DecoderBlockImpl::add(
    const torch::Tensor& hidden, const torch::Tensor& part, RMSNorm& output_norm) {
  const auto normed = output_norm.is_empty() ? part : output_norm(part);
  return hidden +
         (options.residual_multiplier == 1.0 ? normed : normed * options.residual_multiplier);
}

DecoderBlockOutput DecoderBlockImpl::forward(
    const torch::Tensor& hidden,
    const SequenceContext& context,
    const torch::Tensor& token_ids) {
  return feed(attend(hidden, context), token_ids);
}

FeedForwardInput DecoderBlockImpl::attend(
    const torch::Tensor& hidden, const SequenceContext& context) {
  const auto attended = attention_norm.is_empty() ? hidden : attention_norm(hidden);
  const auto mixed = add(hidden, mixer().mix(attended, context), attention_output_norm);
  const auto normed = options.norm_placement == "parallel" ? attended
                      : feed_forward_norm.is_empty()       ? mixed
                                                           : feed_forward_norm(mixed);
  return {mixed, normed};
}

DecoderBlockOutput DecoderBlockImpl::feed(
    const FeedForwardInput& input, const torch::Tensor& token_ids) {
  if (moe.is_empty()) {
    return {
        add(input.hidden, feed_forward(input.normed), feed_forward_output_norm), std::nullopt};
  }
  const auto experts = moe->forward_with_routing(input.normed, token_ids);
  return {
      add(input.hidden, experts.output, feed_forward_output_norm),
      experts.routing,
      input.normed};
}

SequenceMixer& DecoderBlockImpl::mixer() {
  if (attention.is_empty()) {
    return *latent_attention;
  }
  return *attention;
}

} // namespace moe
