#pragma once

#include <cstdint>
#include <string>
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

  int64_t num_heads = 4;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  bool qk_norm = true;
  bool attention_bias = false;
  int64_t sliding_window = 0;
  double rope_theta = 10000.0;
  double norm_epsilon = 1e-6;

  int64_t num_experts = 8;
  int64_t experts_per_token = 2;
  int64_t expert_dim = 512;
  std::vector<int64_t> dense_layers;
  int64_t dense_dim = 1024;
  int64_t shared_expert_dim = 0;
  bool shared_expert_gate = false;
  std::string activation = "silu";
  bool gated = true;
  bool expert_bias = false;
  bool normalize_weights = true;
  double routed_scaling_factor = 1.0;

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
    visit("num_heads", options.num_heads, "Number of query heads H.");
    visit(
        "num_kv_heads",
        options.num_kv_heads,
        "Number of key and value heads, a divisor of num_heads; 0 means num_heads.");
    visit(
        "head_dim", options.head_dim, "Width of a head, even; 0 means model_dim / num_heads.");
    visit(
        "qk_norm",
        options.qk_norm,
        "Normalise queries and keys per head before the rotary positions.");
    visit(
        "attention_bias",
        options.attention_bias,
        "Add learned biases to the attention projections.");
    visit(
        "sliding_window",
        options.sliding_window,
        "Tokens that a token sees, itself included; 0 means all before it.");
    visit("rope_theta", options.rope_theta, "Base of the rotary frequencies.");
    visit("norm_epsilon", options.norm_epsilon, "Added to the mean square in every RMSNorm.");
    visit(
        "num_experts",
        options.num_experts,
        "Experts E per MoE layer; 0 makes every layer dense.");
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
        "gated",
        options.gated,
        "Multiply the activation with a second projection (SwiGLU and its kin).");
    visit(
        "expert_bias",
        options.expert_bias,
        "Add learned biases to the feed-forward projections.");
    visit(
        "normalize_weights",
        options.normalize_weights,
        "Divide the weights of the chosen experts by their sum.");
    visit(
        "routed_scaling_factor",
        options.routed_scaling_factor,
        "Multiplies the weights of the chosen experts.");
    visit(
        "initializer_range",
        options.initializer_range,
        "Standard deviation of initial weights; residual outputs get it divided by sqrt(2 L).");
  }

  bool operator==(const DecoderOptions&) const = default;
};

/// Key and value heads after the default of `num_kv_heads`.
int64_t resolved_num_kv_heads(const DecoderOptions& options);

/// Width of a head after the default of `head_dim`.
int64_t resolved_head_dim(const DecoderOptions& options);

/// Whether layer `layer` has experts.
bool is_moe_layer(const DecoderOptions& options, int64_t layer);

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
