#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <algorithm>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/huggingface/config_reader_internal.h"
#include "moe/files/json_internal.h"

namespace moe {

/// How the elements of a tensor of ours lie in those of a file.
enum class TensorForm {
  rows,                ///< whole, or its rows in several tensors (see `TensorRule`)
  one_row,             ///< [E] as [1, E]
  transposed,          ///< each expert's matrix with rows and columns exchanged
  interleaved_columns, ///< the same, and gate and up in alternate columns
  interleaved,         ///< gate and up in alternate rows, or elements of a bias
  mxfp4,               ///< whole, as 4-bit blocks
  mxfp4_interleaved,   ///< gate and up in alternate rows, as 4-bit blocks
  stacked,             ///< the rows of all experts one below the other: [E · rows, D]
  stacked_transposed,
  turning_heads,  ///< rows of heads: if the file has rotary pairs, they are side by side
  turning_latent, ///< latent rows, then one head that turns, likewise
};

/// The names of one tensor of ours in files. `ours` is what follows "layers.N." and stands for
/// both its ".weight" and its ".bias" if it has neither ending. In `theirs` # is the number of
/// each expert, and {a,b} names parts of the rows: two halves (gate and up), or three for
/// queries, keys and values.
struct TensorRule {
  std::string_view ours;
  std::string_view theirs;
  TensorForm form = TensorForm::rows;
};

using TensorRules = std::vector<TensorRule>;

/// The names of a family's tensors.
struct TensorNames {
  /// The first list that knows a tensor of ours decides; several rules of it for the same
  /// tensor are ways to store it, the first is written.
  std::vector<const TensorRules*> rules;
  std::string_view embedding = "model.embed_tokens.weight";
  std::string_view layers = "model.layers.";
  std::string_view final_norm = "model.norm";
};

/// One architecture of Hugging Face. A new one is a file that defines such a table row, and a
/// line in `families()`. It expresses a model exactly if what `read` makes of what `write`
/// wrote is the same model.
struct Family {
  std::string_view model_type;
  /// Adds all keys but `model_type` to config.json.
  void (*write)(const DecoderOptions&, const ConfigExtras&, OrderedJson&);
  /// Reads all keys but `model_type`. Keys that are left over are reported as ignored.
  void (*read)(ConfigReader&, ReadConfig&);
  /// Null: tensors have our own names.
  const TensorNames* names;
};

/// All families; the first that expresses the options is written.
const std::vector<const Family*>& families();

/// The ways in which files of a family store a tensor of ours.
std::vector<TensorParts> stored_tensor(
    const TensorNames& names,
    const DecoderOptions& options,
    const FileForm& form,
    const NamedShape& ours);

// Names that many families share.

/// Norms before attention and feed-forward, projections q, k, v and o, norms of heads and sinks
/// below self_attn, a dense network below mlp.
extern const TensorRules kLlamaNames;
/// Experts below mlp.experts.N with gate_proj, up_proj and down_proj, router mlp.gate, and
/// fused.
extern const TensorRules kQwenExpertNames;
/// Experts below block_sparse_moe.experts.N with w1, w3 and w2, and fused below mlp.
extern const TensorRules kMixtralExpertNames;
/// A shared network below mlp.shared_experts.
extern const TensorRules kSharedExpertsNames;
/// Latent attention.
extern const TensorRules kLatentAttentionNames;
/// post_attention_layernorm and post_feedforward_layernorm, after attention and feed-forward.
extern const TensorRules kOutputNormNames;
/// mlp.gate.e_score_correction_bias.
extern const TensorRules kSelectionBiasNames;

/// An option under its own name, as `moe_decoder` has all and other families those that matter
/// in training only.
void write_option(
    const OptionRow<DecoderOptions>& row, const DecoderOptions& options, OrderedJson& config);
void read_option(
    ConfigReader& reader, const OptionRow<DecoderOptions>& row, DecoderOptions& options);

/// The enumerator that the text under `key` names.
template <class Enum>
Enum read_enum(ConfigReader& reader, const std::string& key, Enum fallback) {
  const std::string name = reader.text(key, std::string(enum_name(fallback)));
  const auto choices = enum_choices<Enum>();
  if (std::find(choices.begin(), choices.end(), name) == choices.end()) {
    reader.fail_value(key, either_of(choices));
  }
  return enum_from_name<Enum>(key, name);
}

// What the configurations of many families share.

/// What a key that is missing means.
struct CommonDefaults {
  double norm_epsilon = 1e-6;
  double rope_theta = 10000.0;
  bool tie_embeddings = false;
  int64_t head_dim = 0; ///< 0: the width divided by the number of heads
  /// Part of each head that turns; 0: this architecture turns all of it.
  double partial_rotary_factor = 0.0;
  std::string_view norm_epsilon_key = "rms_norm_eps";
  bool rope_by_layer_type = false; ///< then positions are read by the family
};

/// Vocabulary, widths, heads, positions, norms, token ids and types.
void write_common(const DecoderOptions&, const ConfigExtras&, OrderedJson&);
void read_common(ConfigReader&, ReadConfig&, const CommonDefaults& = {});

/// The part of it that does not depend on the names of widths: vocabulary, token ids, types,
/// quantisation. Norms of queries and keys are off after it.
void write_model_ends(const DecoderOptions&, const ConfigExtras&, OrderedJson&);
void read_model_ends(ConfigReader&, ReadConfig&, bool tie_embeddings);

/// The number of layers, bounded.
int64_t read_num_layers(ConfigReader&, const std::string& key);

/// Number of experts from the first of the keys that is there; all that are there must agree.
int64_t read_num_experts(ConfigReader&, std::initializer_list<const char*> keys);

/// K and `router_aux_loss_coef`, which is K at perfect balance where ours is 1.
void read_experts_per_token(
    ConfigReader&,
    ReadConfig&,
    const char* key = "num_experts_per_tok",
    double default_weight = 0.001);
void write_balance_weight(const DecoderOptions&, const ConfigExtras&, OrderedJson&);

/// `hidden_act` of an activation of ours and back.
std::string_view hidden_act(Activation activation);
Activation activation_from_act(ConfigReader&, const std::string& key = "hidden_act");

/// Positions, from `rope_theta`, `rope_scaling`, `rope_parameters` and
/// `partial_rotary_factor`. Needs context_length and the width of heads.
void read_rope(ConfigReader&, DecoderOptions&, const CommonDefaults& = {});
/// The same with parameters for each type of layer: those of layers of `full_attention_layers`
/// are the options', the others become exceptions.
void read_rope_by_layer_type(
    ConfigReader&, DecoderOptions&, const Json& full_default, const Json& sliding_default);
void write_rope(const DecoderOptions&, OrderedJson&);
void write_rope_by_layer_type(const DecoderOptions&, OrderedJson&);

/// `layer_types`: one of "full_attention" and `other` per layer, `defaults` if it is missing.
/// Sets `full_attention_layers`; the width of the window is the caller's.
void read_layer_types(
    ConfigReader&,
    DecoderOptions&,
    const std::vector<bool>& default_is_full,
    std::string_view other = "sliding_attention");
OrderedJson layer_types(const DecoderOptions&, std::string_view other = "sliding_attention");

/// `mlp_layer_types`: one of "dense" and "sparse" per layer; the first `default_dense` layers
/// are dense if it is missing, or as many as `first_k_dense_replace` says.
void read_mlp_layer_types(ConfigReader&, DecoderOptions&, int64_t default_dense);
OrderedJson mlp_layer_types(const DecoderOptions&);

/// `first_k_dense_replace`: that many layers from the first are dense.
void read_first_dense(ConfigReader&, DecoderOptions&, const char* key, int64_t fallback);
/// The number of dense layers from the first.
int64_t count_first_dense(const DecoderOptions&);

/// Router as in DeepSeek-V3: sigmoid scores, selection bias, groups, renormalised and scaled.
void read_sigmoid_router(ConfigReader&, DecoderOptions&, double default_scale, bool normalize);
void write_group_router(const DecoderOptions&, OrderedJson&);
/// `n_group` and `topk_group`.
void read_groups(ConfigReader&, DecoderOptions&, RouterSelection selection);

/// Experts by the keys of DeepSeek: n_routed_experts, n_shared_experts, moe_intermediate_size
/// and intermediate_size of dense layers.
void read_deepseek_experts(ConfigReader&, ReadConfig&, int64_t default_shared = 1);
void write_deepseek_experts(const DecoderOptions&, OrderedJson&);

/// A width or window that is null where there is none.
OrderedJson number_or_null(int64_t value);

/// The number of shared experts of the width of a routed one; fails if that is not whole.
int64_t count_shared_experts(const DecoderOptions&);

/// Widths of latent attention, and `rope_interleave`.
void read_latent_attention(ConfigReader&, ReadConfig&, const CommonDefaults& = {});
void write_latent_attention(const DecoderOptions&, OrderedJson&);

} // namespace moe
