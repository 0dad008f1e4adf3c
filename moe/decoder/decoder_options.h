#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/kernels/expert_form.h"
#include "moe/layers/attention_form.h"
#include "moe/layers/norm_form.h"
#include "moe/layers/rotary_form.h"
#include "moe/layers/router_form.h"
#include "moe/option_table.h"

namespace moe {

/// Where the norms of a block are.
enum class NormPlacement {
  before,   ///< on the input of attention and feed-forward
  after,    ///< on their output
  both,     ///< on input and output
  parallel, ///< one norm on the input of both, which are added together
};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<NormPlacement>{
    "before", "after", "both", "parallel"};

/// What a decoder-only language model is made of. Travels with the weights (`config.json`).
///
/// The forms are those of the layers, for all layers alike; the lists beside them say where
/// layers differ. `option_table<DecoderOptions>()` has a row for every option, forms included:
/// its flag, TOML key, JSON key, help text and range.
///
/// Example:
/// ```
/// DecoderOptions options{.vocab_size = 257, .model_dim = 128, .num_layers = 4};
/// options.attention.num_kv_heads = 2;
/// options.router.score = RouterScore::sigmoid;
/// DecoderLM model(options);
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

  AttentionForm attention = {};
  std::vector<int64_t> layer_num_heads = {};
  std::vector<int64_t> full_attention_layers = {};

  RotaryForm rotary = {};
  std::vector<int64_t> no_rope_layers = {};
  std::vector<double> layer_rope_theta = {};
  std::vector<int64_t> layer_rotary_dim = {};
  std::vector<int64_t> rope_unscaled_layers = {};

  NormForm norm = {};
  NormPlacement norm_placement = NormPlacement::before;

  int64_t num_experts = 8;
  std::vector<int64_t> layer_num_experts = {};
  int64_t experts_per_token = 2;
  int64_t expert_dim = 512;
  std::vector<int64_t> dense_layers = {};
  int64_t dense_dim = 1024;
  int64_t shared_expert_dim = 0;
  bool shared_expert_gate = false;
  ExpertForm expert = {}; ///< of routed and shared experts and of dense networks
  bool expert_bias = false;
  bool feed_forward_bias = false;
  bool moe_output_norm = false;
  double moe_output_multiplier = 1.0;

  RouterForm router = {};

  double initializer_range = 0.02;

  bool operator==(const DecoderOptions&) const = default;
};

template <>
const OptionTable<DecoderOptions>& option_table<DecoderOptions>();

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

/// How layer `layer` attends: the widths resolved, without what the layer is an exception of.
AttentionForm layer_attention(const DecoderOptions& options, int64_t layer);

/// How layer `layer` turns queries and keys by their positions, its width and lengths resolved.
RotaryForm layer_rotary(const DecoderOptions& options, int64_t layer);

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
