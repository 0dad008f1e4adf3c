#pragma once

#include "moe/decoder/decoder_options.h"

namespace moe::testing {

/// A model that computes in a moment: two layers, one of them dense, four experts.
inline DecoderOptions tiny_decoder() {
  DecoderOptions options;
  options.vocab_size = 23;
  options.context_length = 48;
  options.model_dim = 16;
  options.num_layers = 2;
  options.attention.num_heads = 4;
  options.attention.num_kv_heads = 2;
  options.num_experts = 4;
  options.experts_per_token = 2;
  options.expert_dim = 12;
  options.dense_layers = {0};
  options.dense_dim = 24;
  // Wide enough for every part to matter in the result.
  options.initializer_range = 0.3;
  return options;
}

} // namespace moe::testing
