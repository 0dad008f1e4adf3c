#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "moe/layers/sequence_mixer.h"

namespace moe {

/// What a decoder remembers of the tokens it has seen, so that the next ones cost no
/// recomputation. Made by `DecoderLM::make_state`; its memory is allocated then and does not
/// grow.
struct DecoderState {
  std::vector<std::unique_ptr<MixerState>> layers; ///< one per layer
  int64_t capacity = 0;                            ///< tokens that fit per sequence
  int64_t length = 0;                              ///< tokens seen per sequence
  torch::Tensor ids; ///< those tokens, [B, length]; kept for longrope only

  /// Bytes of memory of all layers.
  int64_t bytes() const;
};

} // namespace moe
