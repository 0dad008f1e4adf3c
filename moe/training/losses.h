#pragma once

#include <torch/types.h>

#include <vector>

#include "moe/layers/routing.h"

namespace moe {

/// How unevenly a router uses its experts (Fedus et al., Switch Transformers, arXiv 2101.03961,
/// equation 4, for K experts per token):
///
///     E · Σ_e f_e · P_e
///
/// with f_e the share of rows that went to expert e and P_e its mean score. 1 at perfect
/// balance, up to E when one expert gets everything. Differentiable in the scores.
///
/// Example:
/// ```
/// torch::Tensor loss = task_loss + 0.01 * load_balancing_loss(out.routing);
/// ```
torch::Tensor load_balancing_loss(const Routing& routing);

/// The mean over layers. Undefined for no layers.
torch::Tensor load_balancing_loss(const std::vector<Routing>& layers);

/// Keeps router logits small (Zoph et al., ST-MoE, arXiv 2202.08906, equation 5): the mean over
/// tokens of logsumexp(logits)².
torch::Tensor router_z_loss(const Routing& routing);

/// The mean over layers. Undefined for no layers.
torch::Tensor router_z_loss(const std::vector<Routing>& layers);

} // namespace moe
