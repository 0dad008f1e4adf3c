#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// What a decoder-only language model is made of. Travels with the weights (`config.json`).
///
/// Each field is documented in `visit_fields`, from which the flag, the TOML key, the JSON key
/// and the help text are derived.
///
/// Example:
/// ```
/// DecoderOptions options{.vocab_size = 257, .model_dim = 128, .num_layers = 4, .num_heads =
/// 4}; DecoderLM model(options);
/// ```
struct DecoderOptions {
  int64_t vocab_size = 0;
  int64_t context_length = 512;
  int64_t model_dim = 256;
  int64_t num_layers = 4;
  bool tie_embeddings = false;
  bool head_bias = false;
  double embedding_multiplier = 1.0;
  double residual_multiplier = 1.0;
  double logits_multiplier = 1.0;

  int64_t num_heads = 4;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  std::vector<int64_t> layer_num_heads = {};
  bool qk_norm = true;
  std::string qk_norm_kind = "head";
  bool qk_norm_after_rope = false;
  bool attention_bias = false;
  bool qkv_bias = false;
  double clip_qkv = 0.0;
  double attention_multiplier = 0.0;
  bool attention_sinks = false;
  std::string attention_gate = "none";
  int64_t sliding_window = 0;
  int64_t attention_chunk = 0;
  std::vector<int64_t> full_attention_layers = {};
  double query_growth = 0.0;
  int64_t query_growth_length = 8192;
  int64_t query_latent_dim = 0;
  int64_t key_value_latent_dim = 0;
  int64_t value_head_dim = 0;

  double rope_theta = 10000.0;
  int64_t rotary_dim = 0;
  std::vector<int64_t> no_rope_layers = {};
  std::vector<double> layer_rope_theta = {};
  std::vector<int64_t> layer_rotary_dim = {};
  std::string rope_scaling = "none";
  std::vector<int64_t> rope_unscaled_layers = {};
  double rope_factor = 1.0;
  int64_t rope_original_length = 0;
  double rope_low_frequency_factor = 1.0;
  double rope_high_frequency_factor = 4.0;
  double rope_beta_fast = 32.0;
  double rope_beta_slow = 1.0;
  bool rope_truncate = true;
  double rope_mscale = 0.0;
  double rope_mscale_all_dim = 0.0;
  double rope_attention_factor = 0.0;
  std::vector<double> rope_short_factors = {};
  std::vector<double> rope_long_factors = {};
  double rope_short_multiplier = 0.0;
  double rope_long_multiplier = 0.0;

  double norm_epsilon = 1e-6;
  std::string norm = "rms";
  std::string norm_placement = "before";

  int64_t num_experts = 8;
  std::vector<int64_t> layer_num_experts = {};
  int64_t experts_per_token = 2;
  int64_t expert_dim = 512;
  std::vector<int64_t> dense_layers = {};
  int64_t dense_dim = 1024;
  int64_t shared_expert_dim = 0;
  bool shared_expert_gate = false;
  std::string activation = "silu";
  double activation_limit = 0.0;
  double activation_sigmoid_scale = 1.0;
  double activation_offset = 0.0;
  bool gated = true;
  bool expert_bias = false;
  bool feed_forward_bias = false;
  bool moe_output_norm = false;
  double moe_output_multiplier = 1.0;
  bool normalize_weights = true;
  double routed_scaling_factor = 1.0;

  std::string router_score = "softmax";
  std::string router_gate = "linear";
  int64_t router_cosine_dim = 0;
  double router_cosine_temperature = 0.5;
  bool router_bias = false;
  double router_logit_cap = 0.0;
  double router_jitter = 0.0;
  std::string router_noise = "none";
  std::string router_selection = "top_k";
  bool router_selection_bias = false;
  int64_t router_groups = 1;
  int64_t router_groups_kept = 1;
  std::string router_weighting = "scores";
  double sparsemixer_jitter = 0.01;
  double normalize_power = 1.0;
  double normalize_minimum = 0.0;
  bool weights_on_input = false;
  double capacity_factor = 0.0;
  std::string capacity_drop = "position";
  bool router_sees_future = false;

  double initializer_range = 0.02;

  /// Calls `visit(name, field, help)` for every field, in the order of the struct.
  template <class Options, class Visitor>
  static void visit_fields(Options& options, Visitor&& visit) {
    visit("vocab_size", options.vocab_size, "Number of token ids V; 0 takes the tokenizer's.");
    visit(
        "context_length",
        options.context_length,
        "Longest sequence in tokens that the model is made for.");
    visit("model_dim", options.model_dim, "Width D of the residual stream.");
    visit("num_layers", options.num_layers, "Number of decoder blocks L.");
    visit(
        "tie_embeddings",
        options.tie_embeddings,
        "Use the embedding matrix as the vocabulary head, too.");
    visit("head_bias", options.head_bias, "Add a learned bias to the vocabulary head.");
    visit(
        "embedding_multiplier",
        options.embedding_multiplier,
        "Multiplies the embedding of each token.");
    visit(
        "residual_multiplier",
        options.residual_multiplier,
        "Multiplies what each attention and feed-forward part adds to the residual stream.");
    visit("logits_multiplier", options.logits_multiplier, "Multiplies the logits.");
    visit("num_heads", options.num_heads, "Number of query heads H.");
    visit(
        "num_kv_heads",
        options.num_kv_heads,
        "Number of key and value heads, a divisor of num_heads; 0 means num_heads.");
    visit(
        "head_dim", options.head_dim, "Width of a head, even; 0 means model_dim / num_heads.");
    visit(
        "layer_num_heads",
        options.layer_num_heads,
        "Query heads of each layer where they differ; empty means num_heads everywhere.");
    visit(
        "qk_norm", options.qk_norm, "Normalise queries and keys before the rotary positions.");
    visit(
        "qk_norm_kind",
        options.qk_norm_kind,
        "head: each head by itself; full: all heads together; unweighted: each head after the "
        "rotary positions, without weights, in layers that have positions.");
    visit(
        "qk_norm_after_rope",
        options.qk_norm_after_rope,
        "Normalise queries and keys after the rotary positions instead of before.");
    visit(
        "attention_bias",
        options.attention_bias,
        "Add learned biases to the attention projections.");
    visit("qkv_bias", options.qkv_bias, "Add learned biases to queries, keys and values only.");
    visit(
        "clip_qkv",
        options.clip_qkv,
        "Limit queries, keys and values to plus or minus this after their norm and before the "
        "positions; 0 for "
        "no limit.");
    visit(
        "attention_multiplier",
        options.attention_multiplier,
        "Multiplies the scores of attention; 0 means 1 / sqrt(head_dim).");
    visit(
        "attention_sinks",
        options.attention_sinks,
        "Add a learned score per head to which attention may go without a token.");
    visit(
        "attention_gate",
        options.attention_gate,
        "Multiply attention's output by a learned gate of its input: none, sigmoid, softplus "
        "or softplus_per_head.");
    visit(
        "sliding_window",
        options.sliding_window,
        "Tokens that a token sees, itself included; 0 means all before it.");
    visit(
        "attention_chunk",
        options.attention_chunk,
        "Tokens see only the chunk of this many positions in which they are; 0 for no chunks.");
    visit(
        "full_attention_layers",
        options.full_attention_layers,
        "Indices of layers that see all tokens in spite of sliding_window or attention_chunk.");
    visit(
        "query_growth",
        options.query_growth,
        "Multiply queries by 1 + this times ln(1 + floor(position / query_growth_length)): in "
        "all layers of latent attention, else in layers without positions, there counted from "
        "1.");
    visit(
        "query_growth_length",
        options.query_growth_length,
        "Tokens after which queries grow by query_growth.");
    visit(
        "query_latent_dim",
        options.query_latent_dim,
        "Width of the latent vector that queries are made from in latent attention; 0 makes "
        "them from the input.");
    visit(
        "key_value_latent_dim",
        options.key_value_latent_dim,
        "Width of the latent vector that keys and values are made from; 0 for ordinary "
        "attention.");
    visit(
        "value_head_dim",
        options.value_head_dim,
        "Width of a value head in latent attention; 0 means head_dim.");
    visit("rope_theta", options.rope_theta, "Base of the rotary frequencies.");
    visit(
        "rotary_dim",
        options.rotary_dim,
        "Elements of each head that turn with the position: the first, in latent attention the "
        "last; 0 means all.");
    visit(
        "no_rope_layers",
        options.no_rope_layers,
        "Indices of layers without rotary positions.");
    visit(
        "layer_rope_theta",
        options.layer_rope_theta,
        "Base of the rotary frequencies of each layer where they differ; empty means "
        "rope_theta everywhere.");
    visit(
        "layer_rotary_dim",
        options.layer_rotary_dim,
        "rotary_dim of each layer where they differ; empty means rotary_dim everywhere.");
    visit(
        "rope_scaling",
        options.rope_scaling,
        "Stretch positions for longer contexts: none, linear, dynamic, llama3, yarn or "
        "longrope.");
    visit(
        "rope_unscaled_layers",
        options.rope_unscaled_layers,
        "Indices of layers to which rope_scaling does not apply.");
    visit(
        "rope_factor",
        options.rope_factor,
        "How much longer the context becomes by rope_scaling.");
    visit(
        "rope_original_length",
        options.rope_original_length,
        "Context before llama3, yarn or longrope scaling; 0 means context_length.");
    visit(
        "rope_low_frequency_factor",
        options.rope_low_frequency_factor,
        "llama3: waves longer than rope_original_length / this are stretched.");
    visit(
        "rope_high_frequency_factor",
        options.rope_high_frequency_factor,
        "llama3: waves shorter than rope_original_length / this are kept.");
    visit(
        "rope_beta_fast",
        options.rope_beta_fast,
        "yarn: frequencies with more turns in rope_original_length are kept.");
    visit(
        "rope_beta_slow",
        options.rope_beta_slow,
        "yarn: frequencies with fewer turns in rope_original_length are stretched.");
    visit(
        "rope_truncate",
        options.rope_truncate,
        "yarn: round the bounds between kept and stretched frequencies to whole pairs.");
    visit(
        "rope_mscale",
        options.rope_mscale,
        "yarn: weight of the growth of the scores; 0 for the default.");
    visit(
        "rope_mscale_all_dim",
        options.rope_mscale_all_dim,
        "yarn: its counterpart, which also scales the scores of latent attention; 0 for the "
        "default.");
    visit(
        "rope_attention_factor",
        options.rope_attention_factor,
        "yarn and longrope: multiplies cosines and sines; 0 for the default.");
    visit(
        "rope_short_factors",
        options.rope_short_factors,
        "longrope: divisors of the frequencies up to rope_original_length, one per pair.");
    visit(
        "rope_long_factors",
        options.rope_long_factors,
        "longrope: divisors of the frequencies beyond rope_original_length.");
    visit(
        "rope_short_multiplier",
        options.rope_short_multiplier,
        "longrope: multiplies cosines and sines up to rope_original_length; the short factors "
        "then hold at every length. 0 for the default.");
    visit(
        "rope_long_multiplier",
        options.rope_long_multiplier,
        "longrope: multiplies cosines and sines beyond rope_original_length.");
    visit("norm_epsilon", options.norm_epsilon, "Added to the mean square in every norm.");
    visit("norm", options.norm, "Norm of the residual stream: rms, layer or layer_bias.");
    visit(
        "norm_placement",
        options.norm_placement,
        "before: norms on the input of attention and feed-forward; after: on their output; "
        "both; parallel: one norm on the input of both, which are added together.");
    visit(
        "num_experts",
        options.num_experts,
        "Experts E per MoE layer; 0 makes every layer dense.");
    visit(
        "layer_num_experts",
        options.layer_num_experts,
        "Experts of each layer where some have fewer than num_experts; empty means num_experts "
        "everywhere.");
    visit(
        "experts_per_token",
        options.experts_per_token,
        "Experts K chosen per token, 1 to num_experts.");
    visit("expert_dim", options.expert_dim, "Hidden width F of a routed expert.");
    visit(
        "dense_layers",
        options.dense_layers,
        "Indices of layers with one dense feed-forward network instead of experts.");
    visit("dense_dim", options.dense_dim, "Hidden width of the dense feed-forward networks.");
    visit(
        "shared_expert_dim",
        options.shared_expert_dim,
        "Hidden width of an expert that every token passes; 0 for none.");
    visit(
        "shared_expert_gate",
        options.shared_expert_gate,
        "Scale the shared expert by a learned sigmoid gate.");
    visit("activation", options.activation, "silu, gelu, gelu_tanh, relu or relu_squared.");
    visit(
        "activation_limit",
        options.activation_limit,
        "Limit the activation's input from above and its factor to plus or minus this; 0 for "
        "no limit.");
    visit(
        "activation_sigmoid_scale",
        options.activation_sigmoid_scale,
        "silu becomes x * sigmoid(this * x).");
    visit(
        "activation_offset",
        options.activation_offset,
        "Added to the factor of the activation in gated networks.");
    visit(
        "gated",
        options.gated,
        "Multiply the activation with a second projection (SwiGLU and its kin).");
    visit(
        "expert_bias",
        options.expert_bias,
        "Add learned biases to the feed-forward projections.");
    visit(
        "feed_forward_bias",
        options.feed_forward_bias,
        "Add learned biases to dense networks and the shared expert only.");
    visit(
        "moe_output_norm", options.moe_output_norm, "Normalise the output of each MoE layer.");
    visit(
        "moe_output_multiplier",
        options.moe_output_multiplier,
        "Multiplies the output of each MoE layer.");
    visit(
        "normalize_weights",
        options.normalize_weights,
        "Divide the weights of the chosen experts by their sum.");
    visit(
        "routed_scaling_factor",
        options.routed_scaling_factor,
        "Multiplies the weights of the chosen experts.");
    visit(
        "router_score",
        options.router_score,
        "What makes scores of the router's logits: softmax over all experts, sigmoid, "
        "sqrt_softplus or identity.");
    visit(
        "router_gate",
        options.router_gate,
        "What makes logits of a token: linear; cosine: the cosine to each expert's vector, "
        "divided by a learned temperature.");
    visit(
        "router_cosine_dim",
        options.router_cosine_dim,
        "cosine: width of a learned projection before it; 0 for none.");
    visit(
        "router_cosine_temperature",
        options.router_cosine_temperature,
        "cosine: initial temperature.");
    visit("router_bias", options.router_bias, "Add a learned bias to the router's logits.");
    visit(
        "router_logit_cap",
        options.router_logit_cap,
        "Bend the router's logits to plus or minus this by tanh; 0 for no limit.");
    visit(
        "router_jitter",
        options.router_jitter,
        "In training, multiply each element of the router's input by a random number within "
        "this of 1; 0 for none.");
    visit(
        "router_noise",
        options.router_noise,
        "In training, add to the router's logits: none; learned: normal noise of learned width "
        "(noisy top-k).");
    visit(
        "router_selection",
        options.router_selection,
        "How experts are chosen: top_k; groups_by_max or groups_by_top2: top_k within the best "
        "groups by their best score or the sum of their best two; sinkhorn: top_k, in training "
        "balanced over the batch; hash: by the token id; expert_choice: each expert chooses "
        "equally many tokens.");
    visit(
        "router_selection_bias",
        options.router_selection_bias,
        "Add a bias per expert to the scores for the choice only; a float32 buffer that "
        "gradients do not change.");
    visit("router_groups", options.router_groups, "Groups of equally many experts.");
    visit(
        "router_groups_kept",
        options.router_groups_kept,
        "Groups within which experts are chosen.");
    visit(
        "router_weighting",
        options.router_weighting,
        "What the chosen experts are weighted with: scores; softmax of their logits among "
        "themselves; sparsemixer.");
    visit(
        "sparsemixer_jitter",
        options.sparsemixer_jitter,
        "sparsemixer: experts whose logits are within twice this part of the best one share "
        "its softmax.");
    visit(
        "normalize_power",
        options.normalize_power,
        "Divide by the norm of this order instead of the sum.");
    visit("normalize_minimum", options.normalize_minimum, "Divide by at least this.");
    visit(
        "weights_on_input",
        options.weights_on_input,
        "Multiply the input of each chosen expert with its weight instead of its output.");
    visit(
        "capacity_factor",
        options.capacity_factor,
        "In training, an expert computes at most this times the even share of a batch's rows "
        "and drops the rest; 0 for no limit.");
    visit(
        "capacity_drop",
        options.capacity_drop,
        "Which rows a full expert keeps: position: those of the first tokens; score: those "
        "with the highest scores.");
    visit(
        "router_sees_future",
        options.router_sees_future,
        "Allow routing by which a token's experts depend on tokens after it: expert_choice, "
        "sinkhorn, capacity_drop score.");
    visit(
        "initializer_range",
        options.initializer_range,
        "Standard deviation of initial weights; residual outputs get it divided by sqrt(2 L).");
  }

  /// The same for the fields that matter in training only: whatever they are, a trained model
  /// computes the same.
  template <class Options, class Visitor>
  static void visit_training_fields(Options& options, Visitor&& visit) {
    visit_fields(options, [&](const std::string_view name, auto& field, const char* help) {
      if (name == "router_jitter" || name == "capacity_factor" || name == "capacity_drop" ||
          name == "router_sees_future") {
        visit(name.data(), field, help);
      }
    });
  }

  bool operator==(const DecoderOptions&) const = default;
};

/// Query heads of layer `layer`.
int64_t layer_heads(const DecoderOptions& options, int64_t layer);

/// Key and value heads after the default of `num_kv_heads`.
int64_t resolved_num_kv_heads(const DecoderOptions& options);

/// Width of a head after the default of `head_dim`.
int64_t resolved_head_dim(const DecoderOptions& options);

/// Elements of a head that turn with the position in layer `layer`, after the defaults.
int64_t resolved_rotary_dim(const DecoderOptions& options, int64_t layer);

/// Width of a value head after the default of `value_head_dim`.
int64_t resolved_value_dim(const DecoderOptions& options);

/// Whether keys and values come from a latent vector (multi-head latent attention).
bool has_latent_attention(const DecoderOptions& options);

/// Experts of layer `layer`; 0 if it is dense.
int64_t layer_experts(const DecoderOptions& options, int64_t layer);

/// Whether layer `layer` has experts.
bool is_moe_layer(const DecoderOptions& options, int64_t layer);

/// Whether `layers` names layer `layer`.
bool names_layer(const std::vector<int64_t>& layers, int64_t layer);

/// The same model with every field that does not matter at its default and every default that
/// stands for another number replaced by it: options are equal after this if and only if the
/// models are.
DecoderOptions canonical(const DecoderOptions& options);

/// These options with the defaults for all fields in which plain models (see `has_plain_form`)
/// do not differ.
DecoderOptions plain_form(const DecoderOptions& options);

/// Whether the model is a stack of plain blocks: rotary positions as they are, RMSNorm before
/// grouped-query attention and before experts chosen by the highest softmax scores. What such
/// models may differ in is what `DecoderOptions` had from the start: sizes, windows, biases,
/// norm of heads, shared experts, activation, renormalised and scaled weights; besides, what
/// matters in training only.
bool has_plain_form(const DecoderOptions& options);

/// Whether in training a token's experts depend on tokens after it, which `router_sees_future`
/// must allow.
bool depends_on_future(const DecoderOptions& options);

/// What keeps the model from continuing a text token by token, as "option: reason"; empty if
/// nothing does.
std::string generation_obstacle(const DecoderOptions& options);

/// Throws `Error` naming the field, its value and the allowed ones unless a model can be built.
/// `vocab_size` must be known by now.
void validate(const DecoderOptions& options);

/// Parameters of the model: all of them, or those that one token uses (embedding rows counted
/// as one matrix, K of E experts).
struct ParameterCount {
  int64_t total = 0;
  int64_t active = 0;
};
ParameterCount count_parameters(const DecoderOptions& options);

} // namespace moe
