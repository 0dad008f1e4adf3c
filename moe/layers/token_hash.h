#pragma once

#include <torch/types.h>

namespace moe {

/// How much each expert wants each token: [T, E] int64, pseudo-random, all different for one
/// token, a function of token id, expert and seed alone. The experts that want a token most are
/// so spread evenly over the vocabulary, and one more expert takes tokens from all others while
/// no token moves between those (rendezvous hashing).
///
/// `token_ids` [T] int64, at least 0.
torch::Tensor token_hash(const torch::Tensor& token_ids, int64_t num_experts, int64_t seed);

} // namespace moe
