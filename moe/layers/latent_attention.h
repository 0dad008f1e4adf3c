#pragma once

#include "moe/layers/attention_form.h"
#include "moe/layers/rms_norm.h"
#include "moe/layers/sequence_mixer.h"
#include "moe/libtorch.h"

namespace moe {

/// Options for the `LatentAttention` module.
///
/// Example:
/// ```
/// LatentAttention attention(LatentAttentionOptions(
///     /*model_dim=*/512,
///     AttentionForm{.num_heads = 8, .qk_norm = false, .key_value_latent_dim = 64}));
/// ```
struct LatentAttentionOptions {
  /// With a latent vector of model_dim / 4 elements.
  LatentAttentionOptions(int64_t model_dim, int64_t num_heads);
  LatentAttentionOptions(int64_t model_dim, const AttentionForm& form);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Heads, widths, biases and what else decides how tokens attend.
  TORCH_ARG(AttentionForm, form);
  /// Last elements of a head that turn with the position: even, and the same for the keys of
  /// all heads. Default: half of a head
  TORCH_ARG(int64_t, rotary_dim);
  /// Added to the mean square when the latent vectors are normalised. Default: 1e-6
  TORCH_ARG(double, norm_epsilon) = 1e-6;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
  /// Standard deviation of the initial weights of `o_proj`. Default: 0.02
  TORCH_ARG(double, output_initializer_range) = 0.02;
};

/// The latent vectors of one layer and the part of its keys that turns, for as many tokens as
/// it was made for.
class LatentCache : public MixerState {
 public:
  LatentCache(
      int64_t batch_size,
      int64_t capacity,
      int64_t latent_dim,
      int64_t rotary_dim,
      const torch::TensorOptions& type);

  int64_t bytes() const override;

  /// Appends `latents` [B, S, latent_dim] and `keys` [B, S, rotary_dim].
  void append(const torch::Tensor& latents, const torch::Tensor& keys);
  /// All of them so far: [B, length, latent_dim] and [B, length, rotary_dim].
  torch::Tensor latents() const;
  torch::Tensor keys() const;
  int64_t length() const {
    return length_;
  }

 private:
  torch::Tensor latents_; // [B, capacity, latent_dim]
  torch::Tensor keys_;    // [B, capacity, rotary_dim]
  int64_t length_ = 0;
};

/// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): keys and values of all heads
/// are made of one small normalised vector per token, and only that vector and one turned key
/// per token are remembered.
///
/// A head's query and key are [a part without position | a part that turns]; the turning part
/// of the key is common to all heads.
class LatentAttentionImpl : public torch::nn::Cloneable<LatentAttentionImpl>,
                            public SequenceMixer {
 public:
  LatentAttentionImpl(int64_t model_dim, int64_t num_heads)
      : LatentAttentionImpl(LatentAttentionOptions(model_dim, num_heads)) {}
  explicit LatentAttentionImpl(const LatentAttentionOptions& options_);

  void reset() override;
  /// Draws new initial weights; biases become 0.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `input` [B, S, D] -> [B, S, D].
  torch::Tensor forward(const torch::Tensor& input, const SequenceContext& context);

  torch::Tensor mix(const torch::Tensor& input, const SequenceContext& context) override;
  std::unique_ptr<MixerState> make_state(int64_t batch_size, int64_t capacity) const override;

  /// The options with which this module was made; changes after construction have no effect.
  LatentAttentionOptions options;
  torch::nn::Linear q_proj{nullptr};       ///< [H · head_dim, D]; empty with a query latent
  torch::nn::Linear q_down_proj{nullptr};  ///< [query_latent_dim, D]; empty without
  RMSNorm q_norm{nullptr};                 ///< [query_latent_dim]; empty without
  torch::nn::Linear q_up_proj{nullptr};    ///< [H · head_dim, query_latent_dim]; empty without
  torch::nn::Linear kv_down_proj{nullptr}; ///< [key_value_latent_dim + rotary_dim, D]
  RMSNorm kv_norm{nullptr};                ///< [key_value_latent_dim]
  torch::nn::Linear kv_up_proj{nullptr};   ///< [H · (head_dim - rotary_dim + value_head_dim),
                                         ///< key_value_latent_dim]: of each head its key, then
                                         ///< its value
  torch::nn::Linear o_proj{nullptr}; ///< [D, H · value_head_dim]

 private:
  torch::Tensor make_queries(const torch::Tensor& input, const SequenceContext& context);
  torch::Tensor attend_to_all(
      const torch::Tensor& queries,
      const torch::Tensor& latents,
      const torch::Tensor& turned_keys,
      const DocumentStarts* documents);
  torch::Tensor attend_in_latent_space(
      const torch::Tensor& queries,
      const torch::Tensor& latents,
      const torch::Tensor& turned_keys);
};

TORCH_MODULE(LatentAttention);

} // namespace moe
