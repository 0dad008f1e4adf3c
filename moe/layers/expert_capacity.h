#pragma once

#include <torch/types.h>

#include "moe/layers/router_form.h"

namespace moe {

/// The rows that an expert has room for: `factor` times the even share T · K / E, rounded up,
/// and at most T.
int64_t expert_capacity(
    int64_t num_tokens, int64_t experts_per_token, int64_t num_experts, double factor);

/// Which rows find a place in experts with room for `capacity` rows each: [T, K] bool. By
/// position a token's place depends on earlier tokens only; by score it depends on all.
///
/// `experts` [T, K] int64, distinct within a token; `scores` [T, E].
torch::Tensor keep_within_capacity(
    const torch::Tensor& experts,
    const torch::Tensor& scores,
    int64_t capacity,
    CapacityDrop drop);

} // namespace moe
