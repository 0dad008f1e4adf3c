#pragma once

#include <torch/types.h>

namespace moe {

/// Two experts per token and their weights.
struct SparseMixerChoice {
  torch::Tensor experts; ///< [T, 2] int64
  torch::Tensor weights; ///< [T, 2]
};

/// Chooses two experts, one after the other, among those whose logits are within 2 · `jitter`
/// of the best one, relatively (Liu et al., arXiv 2409.12136). Each is weighted with its
/// softmax among them.
///
/// Without training the best is chosen. In training the choice is drawn from that softmax, and
/// where it is not the best one, the weight that multiplies the expert is that softmax in one
/// of four cases and a third of it otherwise, while the gradient is that of the softmax
/// (Heun's third-order method).
///
/// `logits` [T, E], E at least 2.
SparseMixerChoice sparsemixer(const torch::Tensor& logits, double jitter, bool training);

} // namespace moe
