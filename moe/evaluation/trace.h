#pragma once

#include "moe/checkpoint/state_dict.h"
#include "moe/decoder/decoder_lm.h"

namespace moe {

/// What a model computes for `ids` [B, S] int64, as tensors by name, for comparison with other
/// implementations. `logits` [B, S, V]; `hidden_states.0` [B, S, D] is the input of the first
/// layer and `hidden_states.N` the output of layer N - 1, the last one after the final norm;
/// for each layer N with experts `router_logits.N` [B, S, E], `experts.N` [B, S, K] int64 and
/// `weights.N` [B, S, K]. All but the experts are float32.
///
/// Throws `Error` for ids that the model does not have, or more than its context holds.
StateDict trace_model(DecoderLM model, const torch::Tensor& ids);

} // namespace moe
