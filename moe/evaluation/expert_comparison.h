#pragma once

#include <torch/types.h>

#include "moe/layers/sparse_moe_block.h"

namespace moe {

/// How alike the experts of `block` are: the mean, over the tokens of `inputs` [T, D] and all
/// pairs of experts, of the cosine between the outputs of both experts for the token. 1 for
/// copies, near 0 for experts that have nothing in common; in contrast to a comparison of
/// weights it does not depend on the order of an expert's hidden units. 1 for a single expert.
/// Computes all E experts for every token: a few dozen tokens are enough.
double expert_similarity(SparseMoEBlock block, const torch::Tensor& inputs);

/// The share of the choices in `now` [T, K] int64 that are not among those of the same token in
/// `before` [T, K]: 0 where the same experts are chosen in whatever order. Choices of -1 are
/// none.
double expert_churn(const torch::Tensor& before, const torch::Tensor& now);

} // namespace moe
