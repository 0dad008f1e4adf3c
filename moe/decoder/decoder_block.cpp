#include "moe/decoder/decoder_block.h"

#include <cmath>

namespace moe {
namespace {

/// Initial weights that write into the residual stream shrink with its depth, as in GPT-2.
double residual_range(const DecoderOptions& options) {
  return options.initializer_range / std::sqrt(2.0 * static_cast<double>(options.num_layers));
}

CausalSelfAttentionOptions attention_options(const DecoderOptions& options) {
  return CausalSelfAttentionOptions(options.model_dim, options.num_heads)
      .num_kv_heads(resolved_num_kv_heads(options))
      .head_dim(resolved_head_dim(options))
      .qk_norm(options.qk_norm)
      .bias(options.attention_bias)
      .sliding_window(options.sliding_window)
      .norm_epsilon(options.norm_epsilon)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

SparseMoEBlockOptions moe_options(const DecoderOptions& options) {
  return SparseMoEBlockOptions(options.model_dim, options.num_experts)
      .experts_per_token(options.experts_per_token)
      .expert_dim(options.expert_dim)
      .activation(activation_from_name(options.activation))
      .gated(options.gated)
      .bias(options.expert_bias)
      .shared_expert_dim(options.shared_expert_dim)
      .shared_expert_gate(options.shared_expert_gate)
      .normalize_weights(options.normalize_weights)
      .routed_scaling_factor(options.routed_scaling_factor)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

ExpertOptions feed_forward_options(const DecoderOptions& options) {
  return ExpertOptions(options.model_dim, options.dense_dim)
      .activation(activation_from_name(options.activation))
      .gated(options.gated)
      .bias(options.expert_bias)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

} // namespace

DecoderBlockImpl::DecoderBlockImpl(const DecoderOptions& options_, int64_t layer_)
    : options(options_), layer(layer_) {
  reset();
}

void DecoderBlockImpl::reset() {
  const auto norm_options = RMSNormOptions(options.model_dim).epsilon(options.norm_epsilon);
  attention_norm = register_module("attention_norm", RMSNorm(norm_options));
  attention = register_module("attention", CausalSelfAttention(attention_options(options)));
  feed_forward_norm = register_module("feed_forward_norm", RMSNorm(norm_options));
  if (is_moe_layer(options, layer)) {
    moe = register_module("moe", SparseMoEBlock(moe_options(options)));
  } else {
    feed_forward = register_module("feed_forward", Expert(feed_forward_options(options)));
  }
}

void DecoderBlockImpl::reset_parameters() {
  attention_norm->reset_parameters();
  attention->reset_parameters();
  feed_forward_norm->reset_parameters();
  if (!moe.is_empty()) {
    moe->reset_parameters();
  } else {
    feed_forward->reset_parameters();
  }
}

void DecoderBlockImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::DecoderBlock(layer=" << layer << ")";
}

DecoderBlockOutput DecoderBlockImpl::forward(
    const torch::Tensor& hidden, const SequenceContext& context) {
  const auto mixed = hidden + mixer().mix(attention_norm(hidden), context);
  const auto normed = feed_forward_norm(mixed);
  if (moe.is_empty()) {
    return {mixed + feed_forward(normed), std::nullopt};
  }
  const auto experts = moe->forward_with_routing(normed);
  return {mixed + experts.output, experts.routing};
}

SequenceMixer& DecoderBlockImpl::mixer() {
  return *attention;
}

} // namespace moe
