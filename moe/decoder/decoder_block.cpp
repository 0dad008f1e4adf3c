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
  return RMSNormOptions(options.model_dim).form(options.norm);
}

CausalSelfAttentionOptions attention_options(const DecoderOptions& options, int64_t layer) {
  return CausalSelfAttentionOptions(options.model_dim, layer_attention(options, layer))
      .norm_epsilon(options.norm.epsilon)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

LatentAttentionOptions latent_attention_options(const DecoderOptions& options, int64_t layer) {
  auto form = layer_attention(options, layer);
  if (form.multiplier == 0.0) {
    form.multiplier = 1.0 / std::sqrt(static_cast<double>(form.head_dim));
  }
  form.multiplier *= yarn_score_multiplier(layer_rotary(options, layer));
  return LatentAttentionOptions(options.model_dim, form)
      .rotary_dim(resolved_rotary_dim(options, layer))
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

TopKRouterOptions router_options(const DecoderOptions& options, int64_t layer) {
  return TopKRouterOptions(options.model_dim, layer_experts(options, layer))
      .experts_per_token(options.experts_per_token)
      .form(options.router)
      .hash_seed(layer)
      .initializer_range(options.initializer_range);
}

ExpertOptions feed_forward_options(const DecoderOptions& options) {
  return ExpertOptions(options.model_dim, options.dense_dim)
      .form(options.expert)
      .bias(options.expert_bias || options.feed_forward_bias)
      .initializer_range(options.initializer_range)
      .output_initializer_range(residual_range(options));
}

} // namespace

SparseMoEBlockOptions moe_block_options(const DecoderOptions& options, int64_t layer) {
  auto result = SparseMoEBlockOptions(options.model_dim, layer_experts(options, layer))
                    .expert_dim(options.expert_dim)
                    .expert(options.expert)
                    .bias(options.expert_bias)
                    .shared_expert_dim(options.shared_expert_dim)
                    .shared_expert_gate(options.shared_expert_gate)
                    .shared_expert_bias(options.feed_forward_bias)
                    .output_multiplier(options.moe_output_multiplier)
                    .initializer_range(options.initializer_range)
                    .output_initializer_range(residual_range(options))
                    .router(router_options(options, layer));
  if (options.moe_output_norm) {
    result.output_norm(norm_options(options));
  }
  return result;
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
    const auto form = layer_rotary(options, layer);
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
  const NormPlacement placement = options.norm_placement;
  const bool before = placement != NormPlacement::after;
  const bool after = placement == NormPlacement::after || placement == NormPlacement::both;
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
  if (before && placement != NormPlacement::parallel) {
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
  const auto normed = options.norm_placement == NormPlacement::parallel ? attended
                      : feed_forward_norm.is_empty()                    ? mixed
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
