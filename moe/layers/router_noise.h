#pragma once

#include <torch/types.h>

namespace moe {

/// `input` with every element multiplied by a random number between 1 - jitter and 1 + jitter
/// (Fedus et al., Switch Transformers, arXiv 2101.03961).
torch::Tensor with_jitter(const torch::Tensor& input, double jitter);

/// `logits` [T, E] plus normal noise of the width softplus(x · noise_weightᵀ) (Shazeer et al.,
/// arXiv 1701.06538, equation 4). `input` [T, D], `noise_weight` [E, D].
torch::Tensor with_learned_noise(
    const torch::Tensor& logits, const torch::Tensor& input, const torch::Tensor& noise_weight);

} // namespace moe
