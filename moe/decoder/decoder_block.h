#pragma once

#include <optional>
#include <vector>

#include "moe/decoder/decoder_options.h"
#include "moe/layers/causal_self_attention.h"
#include "moe/layers/expert.h"
#include "moe/layers/latent_attention.h"
#include "moe/layers/rms_norm.h"
#include "moe/layers/sparse_moe_block.h"
#include "moe/libtorch.h"

namespace moe {

/// What the second part of a block takes.
struct FeedForwardInput {
  torch::Tensor hidden; ///< [B, S, D], to which the part's result is added
  torch::Tensor normed; ///< [B, S, D], of which router and experts compute
};

/// A block's result.
struct DecoderBlockOutput {
  torch::Tensor hidden;             ///< [B, S, D]
  std::optional<Routing> routing;   ///< of a layer with experts
  torch::Tensor expert_inputs = {}; ///< [B, S, D]: what they take; undefined if recomputed
};

/// One layer of the decoder. With the norms before its parts:
///
/// 1. x = x + attention(norm(x))
/// 2. x = x + feed_forward(norm(x)), where the feed-forward part is a mixture of experts or, in
/// a
///    dense layer, one network.
///
/// `norm_placement` puts norms after the parts instead, or both, or makes both parts of one
/// norm; what each part adds is multiplied by `residual_multiplier`.
class DecoderBlockImpl : public torch::nn::Cloneable<DecoderBlockImpl> {
 public:
  /// Layer `layer` of the model that `options` describe.
  DecoderBlockImpl(const DecoderOptions& options_, int64_t layer_);

  void reset() override;
  /// Draws new initial weights.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `hidden` [B, S, D] -> [B, S, D]. `token_ids` [B, S] int64 are asked for by a router that
  /// chooses by hash only.
  DecoderBlockOutput forward(
      const torch::Tensor& hidden,
      const SequenceContext& context,
      const torch::Tensor& token_ids = {});

  /// The two parts of `forward`, which is `feed(attend(hidden, context), token_ids)`.
  FeedForwardInput attend(const torch::Tensor& hidden, const SequenceContext& context);
  DecoderBlockOutput feed(const FeedForwardInput& input, const torch::Tensor& token_ids = {});

  /// The part in which tokens see each other.
  SequenceMixer& mixer();

  DecoderOptions options;
  int64_t layer;
  RMSNorm attention_norm{nullptr};           ///< empty with norms after the parts only
  CausalSelfAttention attention{nullptr};    ///< empty with latent attention
  LatentAttention latent_attention{nullptr}; ///< registered as "attention"; empty without
  RMSNorm attention_output_norm{nullptr};    ///< empty without norms after the parts
  RMSNorm feed_forward_norm{nullptr};        ///< empty with norms after the parts, or parallel
  SparseMoEBlock moe{nullptr};               ///< empty in a dense layer
  Expert feed_forward{nullptr};              ///< empty in a layer with experts
  RMSNorm feed_forward_output_norm{nullptr}; ///< empty without norms after the parts

 private:
  torch::Tensor add(
      const torch::Tensor& hidden, const torch::Tensor& part, RMSNorm& output_norm);
};

TORCH_MODULE(DecoderBlock);

/// The mixture of experts of layer `layer` of the model that `options` describe.
SparseMoEBlockOptions moe_block_options(const DecoderOptions& options, int64_t layer);

/// The tables of all layers for positions `first` to `first + length - 1`; undefined for a
/// layer without positions. `type` is that of the tables: float32 or float64, and the device.
std::vector<RotaryTable> rotary_tables(
    const DecoderOptions& options,
    int64_t first,
    int64_t length,
    const torch::TensorOptions& type);

/// A norm of the residual stream of the model that `options` describe.
RMSNorm residual_norm(const DecoderOptions& options);

} // namespace moe
