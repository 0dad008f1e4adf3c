#pragma once

#include <torch/types.h>

#include <vector>

namespace moe {

/// What a router decided for T tokens: every loss, statistic and report is a function of it.
///
/// E experts, K chosen per token. Float32, or the router input's type if that is wider.
struct Routing {
  torch::Tensor logits;  ///< [T, E]
  torch::Tensor scores;  ///< [T, E]: the logits after the score function
  torch::Tensor experts; ///< [T, K] int64: the chosen experts, the highest score first
  torch::Tensor weights; ///< [T, K]: the factor of each chosen expert's output
};

/// How many rows each expert got: [E] int64, summing to T · K. With `token_mask` [T] bool, only
/// tokens where it is true are counted.
torch::Tensor expert_counts(const Routing& routing, const torch::Tensor& token_mask = {});

/// The routing of the tokens at `positions` [N] int64 only, for losses and counts without
/// padding.
Routing select_tokens(const Routing& routing, const torch::Tensor& positions);

/// Counts [E] int64 of any device as a vector; waits for the device.
std::vector<int64_t> counts_on_host(const torch::Tensor& counts);

} // namespace moe
