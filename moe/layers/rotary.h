#pragma once

#include <torch/types.h>

#include <cstdint>
#include <vector>

#include "moe/layers/rotary_form.h"

namespace moe {

/// Cosines and sines of rotary positions (Su et al., arXiv 2104.09864) for S successive tokens.
/// Undefined tensors stand for no positions.
struct RotaryTable {
  torch::Tensor cos; ///< [S, rotary_dim / 2]
  torch::Tensor sin; ///< [S, rotary_dim / 2]
};

/// The table of positions `first` to `first + length - 1`: element m of a head turns by
/// position · theta^(−2m / head_dim). `type` is that of the table: float32 or float64.
RotaryTable rotary_table(
    int64_t first,
    int64_t length,
    int64_t head_dim,
    double theta,
    const torch::TensorOptions& type);

/// The same for scaled positions. Where frequencies depend on the length (dynamic, longrope),
/// it is that of the whole sequence so far, `first + length`.
RotaryTable rotary_table(
    int64_t first, int64_t length, const RotaryForm& form, const torch::TensorOptions& type);

/// What yarn multiplies the scores of latent attention with besides 1 / sqrt(head_dim).
double yarn_score_multiplier(const RotaryForm& form);

/// Turns element m of each head together with element m + rotary_dim / 2, as Hugging Face does,
/// where rotary_dim is twice the width of the table. Elements from rotary_dim on stay.
///
/// `input` [B, S, H, head_dim] -> the same shape and type; computed in the table's type.
torch::Tensor apply_rotary(const torch::Tensor& input, const RotaryTable& table);

} // namespace moe
