#pragma once

#include <torch/types.h>

namespace moe {

/// What a softmax router makes of its logits.
struct SoftmaxTopK {
  torch::Tensor scores;  ///< [T, E]
  torch::Tensor experts; ///< [T, K] int64: those of the highest logits, the highest first
  torch::Tensor weights; ///< [T, K]: the scores of `experts`, divided by their sum if asked for
};

/// The softmax of `logits` [T, E] over experts, the `k` best experts of each token, and their
/// weights.
///
/// Scores and weights are differentiable. Float32 on the CPU takes one pass forward and one
/// backward, gives the same bits for any number of threads, and of equal logits takes the
/// lower experts; all else is LibTorch's operations.
SoftmaxTopK softmax_top_k(const torch::Tensor& logits, int64_t k, bool normalize_weights);

} // namespace moe
