#pragma once

#include "moe/kernels/attention_heads.h"
#include "moe/layers/attention_form.h"
#include "moe/layers/attention_pattern.h"
#include "moe/layers/rms_norm.h"
#include "moe/layers/sequence_mixer.h"
#include "moe/libtorch.h"

namespace moe {

/// Options for the `CausalSelfAttention` module.
///
/// Example:
/// ```
/// CausalSelfAttention attention(CausalSelfAttentionOptions(/*model_dim=*/512, /*num_heads=*/8)
///                                   .norm_epsilon(1e-5));
/// CausalSelfAttention windowed(CausalSelfAttentionOptions(
///     /*model_dim=*/512, AttentionForm{.num_heads = 8, .sliding_window = 128}));
/// ```
struct CausalSelfAttentionOptions {
  CausalSelfAttentionOptions(int64_t model_dim, int64_t num_heads);
  CausalSelfAttentionOptions(int64_t model_dim, const AttentionForm& form);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Heads, norms, biases, window and what else decides how tokens attend.
  TORCH_ARG(AttentionForm, form);
  /// Added to the mean square when queries and keys are normalised. Default: 1e-6
  TORCH_ARG(double, norm_epsilon) = 1e-6;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
  /// Standard deviation of the initial weights of `o_proj`. Default: 0.02
  TORCH_ARG(double, output_initializer_range) = 0.02;
};

/// The keys and values of one layer, for as many tokens as it was made for. Its type may be
/// narrower than that of the attention, which then computes with rounded keys and values.
class KeyValueCache : public MixerState {
 public:
  KeyValueCache(
      int64_t batch_size,
      int64_t num_kv_heads,
      int64_t capacity,
      int64_t head_dim,
      const torch::TensorOptions& type);

  int64_t bytes() const override;

  /// Appends `keys` and `values` [B, Hkv, S, head_dim].
  void append(const torch::Tensor& keys, const torch::Tensor& values);
  /// All keys and values so far, [B, Hkv, length, head_dim].
  torch::Tensor keys() const;
  torch::Tensor values() const;
  int64_t length() const {
    return length_;
  }

  /// For kernels that write keys and values themselves: the memory of all of them,
  /// [B, Hkv, capacity, head_dim] of the cache's type, and to say that there are `tokens` more.
  void* key_memory();
  void* value_memory();
  void advance(int64_t tokens);

 private:
  torch::Tensor keys_;   // [B, Hkv, capacity, head_dim]
  torch::Tensor values_; // [B, Hkv, capacity, head_dim]
  int64_t length_ = 0;
};

/// Multi-head attention of each token to the tokens before it, with grouped key and value heads
/// (Ainslie et al., arXiv 2305.13245) and rotary positions:
///
/// 1. project to queries, keys and values;
/// 2. normalise queries and keys (optional), turn them by their positions unless the context
///    has no table of them;
/// 3. attend, in memory that grows linearly with S: in float32 on the CPU by blocks
///    (`fused_attention`), else by LibTorch, in chunks of queries where there is a window;
/// 4. multiply with the gate (optional) and project back.
class CausalSelfAttentionImpl : public torch::nn::Cloneable<CausalSelfAttentionImpl>,
                                public SequenceMixer {
 public:
  CausalSelfAttentionImpl(int64_t model_dim, int64_t num_heads)
      : CausalSelfAttentionImpl(CausalSelfAttentionOptions(model_dim, num_heads)) {}
  explicit CausalSelfAttentionImpl(const CausalSelfAttentionOptions& options_);

  void reset() override;
  /// Draws new initial weights; biases become 0.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `input` [B, S, D] -> [B, S, D].
  torch::Tensor forward(const torch::Tensor& input, const SequenceContext& context);

  torch::Tensor mix(const torch::Tensor& input, const SequenceContext& context) override;
  std::unique_ptr<MixerState> make_state(int64_t batch_size, int64_t capacity) const override;

  /// The options with which this module was made; changes after construction have no effect.
  CausalSelfAttentionOptions options;
  torch::nn::Linear qkv_proj{nullptr}; ///< [(H + 2 Hkv) · head_dim, D]: queries, keys, values
  torch::nn::Linear o_proj{nullptr};   ///< [D, H · head_dim]
  RMSNorm q_norm{nullptr};             ///< [head_dim] or [H · head_dim]; empty without weights
  RMSNorm k_norm{nullptr}; ///< [head_dim] or [Hkv · head_dim]; empty without weights
  torch::Tensor sinks;     ///< [H]; undefined without sinks
  torch::nn::Linear gate_proj{nullptr}; ///< [H · head_dim or H, D]; empty without gate

 private:
  /// The projection [B, S, ..] split into heads, normed and turned: [B, S, heads, head_dim].
  AttentionHeads make_heads(const torch::Tensor& projected, const RotaryTable& rotary);
  AttentionHeads make_heads_by_operations(
      const torch::Tensor& projected, const RotaryTable& rotary);
  torch::Tensor normed(const torch::Tensor& heads, RMSNorm& norm);
  torch::Tensor gated(const torch::Tensor& attended, const torch::Tensor& input);
};

TORCH_MODULE(CausalSelfAttention);

/// `queries` [B, S, H, head_dim] times 1 + growth · ln(1 + floor(position / length)), where the
/// first token of a sequence has position `first`. With documents, positions are counted from
/// the beginning of each.
torch::Tensor grown_queries(
    const torch::Tensor& queries,
    double growth,
    int64_t length,
    int64_t first,
    const DocumentStarts* documents);

/// Attention in which the tokens of different documents do not see each other.
torch::Tensor attend_within_documents(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern,
    const DocumentStarts& documents);

/// Attention of S queries to the keys up to their own position, in linear memory.
///
/// `queries` [B, H, S, head_dim], `keys` and `values` [B, Hkv, S, head_dim]; `sliding_window`
/// as in the options -> [B, H, S, head_dim].
torch::Tensor causal_attention(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    int64_t sliding_window);

} // namespace moe
