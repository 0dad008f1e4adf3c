#pragma once

#include <torch/types.h>

#include "moe/layers/router_form.h"

namespace moe {

/// The scores [T, E] of `logits` [T, E].
torch::Tensor router_scores(const torch::Tensor& logits, RouterScore score);

} // namespace moe
