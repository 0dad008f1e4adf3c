#pragma once

#include <cstdint>

#include "moe/decoder/decoder_options.h"

namespace moe {

/// Bytes that a training step in float32 on a CPU needs.
struct TrainingMemory {
  /// Weights, gradients and AdamW's two moments: 16 per parameter.
  double parameters = 0.0;
  /// What the forward pass keeps for the backward pass.
  double activations = 0.0;
  /// With `recompute`: what the backward pass keeps of the one block that it computes again.
  double recomputed_block = 0.0;

  double total() const {
    return parameters + activations + recomputed_block;
  }
};

/// The memory of a step over `batch_size` sequences of `sequence_length` tokens, T in all. A
/// token of one layer keeps, in numbers of 4 bytes, with H the layer's heads and
/// Q = (H + 2 Hkv) · head_dim:
///
/// | part | numbers |
/// |---|---|
/// | inputs of both norms, and their results | 4 D |
/// | projected heads, and turned heads | 2 Q |
/// | attention's result | H · head_dim |
/// | or latent attention: latent vectors, and normed | 2 query_latent_dim + 2
/// key_value_latent_dim | | its queries, keys and result | 3 H · head_dim | | its values, if
/// narrower than keys | H · (head_dim + value_head_dim) | | or else, with the keys' parts that
/// do not turn | H · (2 head_dim - rotary_dim) | | router | 2 E + 8 K | | experts before their
/// activation | 2 K F if gated, else K F | | dense network, or shared expert | 4 F if gated,
/// else 2 F; with a gate D more |
///
/// and besides, once: the last norm and the head 3 D per token, V · D for the head's gradient.
/// With `recompute` a layer keeps D and the router's part only. Temporaries of a step, such as
/// the logits of some hundred tokens (16 MiB), come on top; memory that the allocator holds
/// back does, too.
TrainingMemory training_memory(
    const DecoderOptions& model, int64_t batch_size, int64_t sequence_length, bool recompute);

} // namespace moe
