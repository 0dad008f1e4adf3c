#pragma once

#include <torch/types.h>

namespace moe {

/// Cosines and sines of rotary positions (Su et al., arXiv 2104.09864) for S successive tokens.
struct RotaryTable {
  torch::Tensor cos; ///< [S, head_dim / 2]
  torch::Tensor sin; ///< [S, head_dim / 2]
};

/// The table of positions `first` to `first + length - 1`: element m of a head turns by
/// position · theta^(−2m / head_dim). `type` is that of the table: float32 or float64.
RotaryTable rotary_table(
    int64_t first,
    int64_t length,
    int64_t head_dim,
    double theta,
    const torch::TensorOptions& type);

/// Turns element m of each head together with element m + head_dim / 2, as Hugging Face does.
///
/// `input` [B, S, H, head_dim] -> the same shape and type; computed in the table's type.
torch::Tensor apply_rotary(const torch::Tensor& input, const RotaryTable& table);

} // namespace moe
