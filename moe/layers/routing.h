#pragma once

#include <torch/types.h>

#include <vector>

namespace moe {

/// What a router decided for T tokens: every loss, statistic and report is a function of it.
///
/// E experts, K listed per token. Float32, or the router input's type if that is wider. Most
/// routers list for each token the K experts that it goes to. Where experts choose their
/// tokens, K = E and `chosen` says which of them did; where an expert's capacity is limited,
/// `kept` says which rows found a place.
struct Routing {
  torch::Tensor logits;  ///< [T, E]
  torch::Tensor scores;  ///< [T, E]: the logits after the score function
  torch::Tensor experts; ///< [T, K] int64: distinct experts of each token, the preferred first
  torch::Tensor weights; ///< [T, K]: the factor of each expert's output
  /// [T, K] bool: what is computed; undefined: all of `experts`
  torch::Tensor kept = {};
  /// [T, K] bool: the choice before dropping; undefined: all of `experts`
  torch::Tensor chosen = {};
};

/// How many rows each expert computes: [E] int64, summing to T · K unless rows are dropped or
/// experts choose. With `token_mask` [T] bool, only tokens where it is true are counted.
torch::Tensor expert_counts(const Routing& routing, const torch::Tensor& token_mask = {});

/// How many rows each expert was chosen for, dropped ones included: the f of balance losses.
/// [E] int64; `token_mask` as for `expert_counts`.
torch::Tensor chosen_counts(const Routing& routing, const torch::Tensor& token_mask = {});

/// How many chosen rows are not computed because their expert's capacity was full: int64
/// without dimensions. `token_mask` as for `expert_counts`.
torch::Tensor dropped_rows(const Routing& routing, const torch::Tensor& token_mask = {});

/// The routing of the tokens at `positions` [N] int64 only, for losses and counts without
/// padding.
Routing select_tokens(const Routing& routing, const torch::Tensor& positions);

/// Counts [E] int64 of any device as a vector; waits for the device.
std::vector<int64_t> counts_on_host(const torch::Tensor& counts);

} // namespace moe
