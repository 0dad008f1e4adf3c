#pragma once

#include <torch/types.h>

namespace moe {

/// The row list of a routing decision: one row per (token, chosen expert) pair, sorted by
/// expert and, within an expert, by token. A pair that is not in the list is not computed.
///
/// T tokens, K experts per token, E experts, N rows (T·K when nothing is dropped).
struct Dispatch {
  torch::Tensor row_token;  ///< [N] int32: the token of each row
  torch::Tensor row_weight; ///< [N]: the factor of each row's result; differentiable
  torch::Tensor offsets;    ///< [E + 1] int32: expert e owns rows offsets[e] to offsets[e + 1]
  torch::Tensor token_rows; ///< [T, K] int32: the rows of each token, by ascending expert; -1
                            ///< where a token has fewer than K rows
};

/// Builds the row list: on the CPU by a counting sort, elsewhere by `dispatch_by_sorting`.
///
/// `experts` [T, K] int64: the chosen experts, each in [0, num_experts), distinct within a
/// token. `weights` [T, K]: their factors; gradients of `row_weight` flow back to them. With
/// `kept` [T, K] bool, pairs where it is false are left out.
///
/// Example:
/// ```
/// Dispatch rows = dispatch(routing.experts, routing.weights, /*num_experts=*/8);
/// ```
Dispatch dispatch(
    const torch::Tensor& experts,
    const torch::Tensor& weights,
    int64_t num_experts,
    const torch::Tensor& kept = {});

/// The same on any device, by LibTorch's sort. The host does not wait for the device, except
/// with `kept` for the number of rows; nor does it see whether the experts are in range.
Dispatch dispatch_by_sorting(
    const torch::Tensor& experts,
    const torch::Tensor& weights,
    int64_t num_experts,
    const torch::Tensor& kept = {});

} // namespace moe
