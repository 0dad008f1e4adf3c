#pragma once

#include "moe/kernels/attention_heads.h"
#include "moe/layers/attention_pattern.h"
#include "moe/layers/rms_norm.h"
#include "moe/layers/sequence_mixer.h"
#include "moe/libtorch.h"

namespace moe {

/// How queries and keys are normalised.
enum class QKNorm {
  head,       ///< each head by itself, with weights [head_dim]
  full,       ///< all heads together, with weights as wide as the projection
  unweighted, ///< each head by itself, without weights, after the rotary positions
};

/// What attention's output is multiplied with: a function of a projection of the input.
enum class AttentionGate {
  none,
  sigmoid,           ///< one factor for each element of each head
  softplus,          ///< the same, ln(1 + exp(x))
  softplus_per_head, ///< one factor for each head
};

/// Options for the `CausalSelfAttention` module.
///
/// Example:
/// ```
/// CausalSelfAttention attention(
///     CausalSelfAttentionOptions(/*model_dim=*/512, /*num_heads=*/8).num_kv_heads(2));
/// ```
struct CausalSelfAttentionOptions {
  CausalSelfAttentionOptions(int64_t model_dim, int64_t num_heads);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Number of query heads H.
  TORCH_ARG(int64_t, num_heads);
  /// Number of key and value heads, a divisor of num_heads. Default: num_heads
  TORCH_ARG(int64_t, num_kv_heads);
  /// Width of a head, even. Default: model_dim / num_heads
  TORCH_ARG(int64_t, head_dim);
  /// Normalises queries and keys. Default: true
  TORCH_ARG(bool, qk_norm) = true;
  /// How they are normalised. Default: head
  TORCH_ARG(QKNorm, qk_norm_kind) = QKNorm::head;
  /// Normalises after the rotary positions instead of before. Default: false
  TORCH_ARG(bool, qk_norm_after_rotary) = false;
  /// Adds learned biases to both projections. Default: false
  TORCH_ARG(bool, bias) = false;
  /// Adds a learned bias to `qkv_proj` even without `bias`. Default: false
  TORCH_ARG(bool, qkv_bias) = false;
  /// Limits queries, keys and values to plus or minus this; 0 for no limit. Default: 0
  TORCH_ARG(double, clip_qkv) = 0.0;
  /// Multiplies the scores; 0 means 1 / sqrt(head_dim). Default: 0
  TORCH_ARG(double, scale) = 0.0;
  /// Adds a learned score per head that has no token. Default: false
  TORCH_ARG(bool, has_sinks) = false;
  /// What the output is multiplied with before `o_proj`. Default: none
  TORCH_ARG(AttentionGate, gate) = AttentionGate::none;
  /// Tokens see only their own chunk of this many positions; 0 for no chunks. Default: 0
  TORCH_ARG(int64_t, chunk) = 0;
  /// Multiplies queries by 1 + this · ln(1 + floor((position + 1) / query_growth_length)).
  /// Default: 0
  TORCH_ARG(double, query_growth) = 0.0;
  /// Tokens after which queries grow. Default: 8192
  TORCH_ARG(int64_t, query_growth_length) = 8192;
  /// Tokens that a token sees, itself included; 0 means all before it. Default: 0
  TORCH_ARG(int64_t, sliding_window) = 0;
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
