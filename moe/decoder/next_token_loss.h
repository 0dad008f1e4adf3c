#pragma once

#include <torch/types.h>

namespace moe {

/// Cross-entropy in nats of predicting each next token, averaged over the tokens that count:
///
///     Σ mask · (logsumexp(logits) − logits[target]) / normalizer
///
/// `hidden` [B, S, D], `head` [V, D], `targets` [B, S] int64; `loss_mask` [B, S], 1 where a
/// target counts, undefined for everywhere. `normalizer` is the number of tokens that count, or
/// 0 to count them here; several parts of a batch add up to its mean with the number of the
/// whole batch.
///
/// Logits are made for a few hundred tokens at a time, in float32 or wider, and their gradient
/// is taken on the spot, so the logits of the whole batch never exist. Differentiable once, in
/// `hidden` and `head`. Under autocast the products are computed in its type.
torch::Tensor next_token_loss(
    const torch::Tensor& hidden,
    const torch::Tensor& head,
    const torch::Tensor& targets,
    const torch::Tensor& loss_mask = {},
    double normalizer = 0.0);

/// The cross-entropy of each token by itself, without gradient: [B, S] float32 or wider.
torch::Tensor token_losses(
    const torch::Tensor& hidden, const torch::Tensor& head, const torch::Tensor& targets);

} // namespace moe
