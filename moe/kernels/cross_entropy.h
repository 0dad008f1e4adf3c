#pragma once

#include <torch/types.h>

namespace moe {

/// The cross-entropy of T rows against a vocabulary of V, and its gradients.
struct CrossEntropy {
  torch::Tensor losses;        ///< [T]: logsumexp(logits) − logits[target], in nats
  torch::Tensor rows_gradient; ///< [T, D]: of Σ weights · losses; undefined unless asked for
  torch::Tensor head_gradient; ///< [V, D], likewise
};

/// Computes logits = rows · headᵀ, their losses, and the gradients of Σ weights · losses on the
/// spot, for a few hundred rows at a time: the logits of all rows never exist at once.
///
/// `rows` [T, D] and `head` [V, D] of one type, `targets` [T] int64 in [0, V), `weights` [T]
/// float32 or wider. float32 and bfloat16 on the CPU, with weights of float32, are computed in
/// tiles that stay in the cache, to the same bits for any number of threads. All that comes out
/// of tiles is float32, for bfloat16 too: there only the factors of products are rounded, and
/// logits, softmax, losses and gradients are not. All else is `cross_entropy_reference`.
CrossEntropy cross_entropy(
    const torch::Tensor& rows,
    const torch::Tensor& head,
    const torch::Tensor& targets,
    const torch::Tensor& weights,
    bool need_gradient);

/// The same in ATen operations: any device and type. Losses are float32 or wider, gradients of
/// the type of what they are for.
CrossEntropy cross_entropy_reference(
    const torch::Tensor& rows,
    const torch::Tensor& head,
    const torch::Tensor& targets,
    const torch::Tensor& weights,
    bool need_gradient);

} // namespace moe
