#pragma once

#include "moe/generation/packed_decoder.h"
#include "moe/layers/top_k_router.h"

namespace moe {

/// The feed-forward layers of many tokens, from packed weights: what `SparseMoEBlock` and
/// `Expert` compute, for prompts.
class PackedFeedForward {
 public:
  explicit PackedFeedForward(const DecoderOptions& options);

  /// `normed` [T, D] -> [T, D].
  torch::Tensor forward(const PackedLayer& layer, const torch::Tensor& normed);

 private:
  TopKRouter router_{nullptr}; ///< takes each layer's weights in turn
};

} // namespace moe
