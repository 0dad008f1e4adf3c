#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moe/checkpoint/model_folder.h"
#include "moe/decoder/decoder_block.h"
#include "moe/editing/text_sample.h"

namespace moe {

/// A layer with experts when the tokens of all texts have come to it.
class LayerVisit {
 public:
  LayerVisit(
      int64_t layer,
      DecoderBlock block,
      const LazyTensors& tensors,
      std::vector<torch::Tensor> inputs);

  int64_t layer() const {
    return layer_;
  }

  /// What router and experts compute of, by text: [T, D].
  const std::vector<torch::Tensor>& inputs() const {
    return inputs_;
  }

  /// Router and experts. Their tensors are asked for at the first call; until then they may
  /// still be decided on.
  SparseMoEBlock experts();

  /// The router before that, with its options but not yet its tensors.
  TopKRouter router() const {
    return block_->moe->router;
  }

 private:
  int64_t layer_;
  DecoderBlock block_;
  const LazyTensors& tensors_;
  std::vector<torch::Tensor> inputs_;
  bool loaded_ = false;
};

/// Runs texts through a model of which one layer at a time is in memory, in float32, and calls
/// `visit` in each layer with experts before they compute. Ends after the last of them.
void run_layers(
    const DecoderOptions& options,
    const LazyTensors& tensors,
    const std::vector<TextSample>& texts,
    const std::function<void(LayerVisit&)>& visit);

} // namespace moe
