#include "moe/decoder/decoder_options.h"

namespace moe {
namespace {

using Options = DecoderOptions;
using enum OptionRange;
using enum OptionSupport;

OptionTable<Options> sizes() {
  return {
      option(
          "vocab_size",
          &Options::vocab_size,
          "Number of token ids V; 0 takes the tokenizer's.",
          {.support = plain}),
      option(
          "context_length",
          &Options::context_length,
          "Longest sequence in tokens that the model is made for.",
          {.range = at_least_1, .support = plain}),
      option(
          "model_dim",
          &Options::model_dim,
          "Width D of the residual stream.",
          {.range = at_least_1, .support = plain}),
      option(
          "num_layers",
          &Options::num_layers,
          "Number of decoder blocks L.",
          {.range = at_least_1, .support = plain}),
      option(
          "tie_embeddings",
          &Options::tie_embeddings,
          "Use the embedding matrix as the vocabulary head, too.",
          {.support = plain}),
      option(
          "head_bias",
          &Options::head_bias,
          "Add a learned bias to the vocabulary head.",
          {.support = packed}),
      option(
          "embedding_multiplier",
          &Options::embedding_multiplier,
          "Multiplies the embedding of each token.",
          {.range = finite, .support = packed}),
      option(
          "residual_multiplier",
          &Options::residual_multiplier,
          "Multiplies what each attention and feed-forward part adds to the residual stream.",
          {.range = finite, .support = packed}),
      option(
          "logits_multiplier",
          &Options::logits_multiplier,
          "Multiplies the logits.",
          {.range = finite, .support = packed}),
  };
}

OptionTable<Options> head_exceptions() {
  return {option(
      "layer_num_heads",
      &Options::layer_num_heads,
      "Query heads of each layer where they differ; empty means num_heads everywhere.",
      {.range = at_least_1})};
}

OptionTable<Options> window_exceptions() {
  return {option(
      "full_attention_layers",
      &Options::full_attention_layers,
      "Indices of layers that see all tokens in spite of sliding_window or attention_chunk.",
      {.matters =
           [](const Options& options) {
             return options.attention.sliding_window > 0 || options.attention.chunk > 0;
           },
       .support = packed})};
}

OptionTable<Options> rotary_exceptions() {
  return {
      option(
          "no_rope_layers",
          &Options::no_rope_layers,
          "Indices of layers without rotary positions.",
          {.support = packed}),
      option(
          "layer_rope_theta",
          &Options::layer_rope_theta,
          "Base of the rotary frequencies of each layer where they differ; empty means "
          "rope_theta everywhere.",
          {.range = above_0, .support = packed}),
      option(
          "layer_rotary_dim",
          &Options::layer_rotary_dim,
          "rotary_dim of each layer where they differ; empty means rotary_dim everywhere.",
          {.support = packed}),
  };
}

OptionTable<Options> scaling_exceptions() {
  return {option(
      "rope_unscaled_layers",
      &Options::rope_unscaled_layers,
      "Indices of layers to which rope_scaling does not apply.",
      {.matters =
           [](const Options& options) { return options.rotary.scaling != RotaryScaling::none; },
       .support = packed})};
}

OptionTable<Options> norm_placement() {
  return {option(
      "norm_placement",
      &Options::norm_placement,
      "before: norms on the input of attention and feed-forward; after: on their output; "
      "both; parallel: one norm on the input of both, which are added together.")};
}

OptionTable<Options> expert_sizes() {
  return {
      option(
          "num_experts",
          &Options::num_experts,
          "Experts E per MoE layer; 0 makes every layer dense.",
          {.range = at_least_0, .support = plain}),
      option(
          "layer_num_experts",
          &Options::layer_num_experts,
          "Experts of each layer where some have fewer than num_experts; empty means "
          "num_experts "
          "everywhere."),
      option(
          "experts_per_token",
          &Options::experts_per_token,
          "Experts K chosen per token, 1 to num_experts.",
          {.support = plain}),
      option(
          "expert_dim",
          &Options::expert_dim,
          "Hidden width F of a routed expert.",
          {.support = plain}),
      option(
          "dense_layers",
          &Options::dense_layers,
          "Indices of layers with one dense feed-forward network instead of experts.",
          {.support = plain}),
      option(
          "dense_dim",
          &Options::dense_dim,
          "Hidden width of the dense feed-forward networks.",
          {.support = plain}),
      option(
          "shared_expert_dim",
          &Options::shared_expert_dim,
          "Hidden width of an expert that every token passes; 0 for none.",
          {.range = at_least_0, .support = plain}),
      option(
          "shared_expert_gate",
          &Options::shared_expert_gate,
          "Scale the shared expert by a learned sigmoid gate.",
          {.matters = [](const Options& options) { return options.shared_expert_dim > 0; },
           .support = plain}),
  };
}

OptionTable<Options> expert_additions() {
  return {
      option(
          "expert_bias",
          &Options::expert_bias,
          "Add learned biases to the feed-forward projections.",
          {.support = plain}),
      option(
          "feed_forward_bias",
          &Options::feed_forward_bias,
          "Add learned biases to dense networks and the shared expert only.",
          {.support = packed}),
      option(
          "moe_output_norm",
          &Options::moe_output_norm,
          "Normalise the output of each MoE layer."),
      option(
          "moe_output_multiplier",
          &Options::moe_output_multiplier,
          "Multiplies the output of each MoE layer.",
          {.range = finite}),
  };
}

OptionTable<Options> initial_weights() {
  return {option(
      "initializer_range",
      &Options::initializer_range,
      "Standard deviation of initial weights; residual outputs get it divided by sqrt(2 L).",
      {.range = at_least_0, .support = plain})};
}

void append(OptionTable<Options>& table, const OptionTable<Options>& rows) {
  table.insert(table.end(), rows.begin(), rows.end());
}

OptionTable<Options> decoder_rows() {
  OptionTable<Options> table = sizes();
  append_options(table, &Options::attention);
  insert_options_after(table, "head_dim", head_exceptions());
  insert_options_after(table, "attention_chunk", window_exceptions());
  append_options(table, &Options::rotary);
  insert_options_after(table, "rotary_dim", rotary_exceptions());
  insert_options_after(table, "rope_scaling", scaling_exceptions());
  append_options(table, &Options::norm);
  append(table, norm_placement());
  append(table, expert_sizes());
  append_options(table, &Options::expert);
  append(table, expert_additions());
  append_options(table, &Options::router);
  append(table, initial_weights());
  return table;
}

} // namespace

template <>
const OptionTable<DecoderOptions>& option_table<DecoderOptions>() {
  static const auto table = decoder_rows();
  return table;
}

} // namespace moe
