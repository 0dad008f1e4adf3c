#pragma once

#include <torch/types.h>

#include "moe/layers/router_options.h"
#include "moe/layers/router_selection.h"

namespace moe {

/// The weights [T, K] of the selected experts by `options.weighting()`, except for
/// `sparsemixer`, which selects and weighs at once; 0 for listed experts that were not chosen.
/// `logits` and `scores` [T, E].
torch::Tensor weigh_experts(
    const torch::Tensor& logits,
    const torch::Tensor& scores,
    const Selection& selection,
    const TopKRouterOptions& options);

} // namespace moe
