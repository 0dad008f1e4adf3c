#pragma once

#include <torch/types.h>

#include <vector>

#include "moe/layers/routing.h"

namespace moe {

// Losses that keep a router's choice even and its logits small. All are functions of `Routing`
// only, differentiable in scores, weights or logits; what an expert got counts as it was
// chosen, before anything is dropped. P_e is the mean over tokens of the scores divided by
// their sum over the experts, so that scores of any kind but negative ones are shares. Leave
// padding out by `select_tokens`.

/// How unevenly a router uses its experts (Fedus et al., Switch Transformers, arXiv 2101.03961,
/// equation 4, for K experts per token):
///
///     E · Σ_e f_e · P_e
///
/// with f_e the share of rows that went to expert e. 1 at perfect balance, up to E when one
/// expert gets everything.
///
/// Example:
/// ```
/// torch::Tensor loss = task_loss + 0.01 * load_balancing_loss(out.routing);
/// ```
torch::Tensor load_balancing_loss(const Routing& routing);

/// The same with f of `counts` [E], the rows that each expert got in some larger batch (Qiu et
/// al., arXiv 2501.11873): over the parts of that batch, each weighted by its share of the
/// tokens, these losses and their gradients add up to those of the whole.
torch::Tensor load_balancing_loss(const Routing& routing, const torch::Tensor& counts);

/// The mean over layers. Undefined for no layers.
torch::Tensor load_balancing_loss(const std::vector<Routing>& layers);

/// The balance of all layers taken together, as `load_balancing_loss_func` of Hugging Face's
/// transformers computes it: K at perfect balance. Unevenness of one layer may cancel that of
/// another. The layers have the same numbers of tokens and experts. Undefined for no layers.
torch::Tensor pooled_balancing_loss(const std::vector<Routing>& layers);

/// The balance within each sequence (DeepSeek-V3, arXiv 2412.19437, equations 17 to 20): the
/// mean over sequences of `load_balancing_loss`. 1 at perfect balance.
///
/// `routing` is of B · S tokens, sequence after sequence. With `token_mask` [B, S] bool, tokens
/// where it is false do not count, nor do sequences without any others.
torch::Tensor sequence_balancing_loss(
    const Routing& routing, int64_t num_sequences, const torch::Tensor& token_mask = {});

/// How unevenly the weights are spread over experts (Shazeer et al., arXiv 1701.06538,
/// equations 6 and 7): the squared coefficient of variation of each expert's sum of weights. 0
/// at perfect balance, E - 1 when one expert gets everything. Without effect for K = 1 with
/// normalised weights, which are then constant.
torch::Tensor importance_loss(const Routing& routing);

/// The balance of `num_devices` groups of E / num_devices neighbouring experts (DeepSeekMoE,
/// arXiv 2401.06066, equations 15 to 17): 1 at perfect balance, up to `num_devices`. Within a
/// group experts may be used unevenly.
torch::Tensor device_balancing_loss(const Routing& routing, int64_t num_devices);

/// The balance of the tokens sent to each of these groups, where a token counts once however
/// many experts it uses there (DeepSeek-V2, arXiv 2405.04434, equations 29 to 31): 1 if tokens
/// go to `devices_per_token` groups each, as many to every group.
torch::Tensor communication_balancing_loss(
    const Routing& routing, int64_t num_devices, int64_t devices_per_token);

/// Keeps router logits small (Zoph et al., ST-MoE, arXiv 2202.08906, equation 5): the mean over
/// tokens of logsumexp(logits)².
torch::Tensor router_z_loss(const Routing& routing);

/// The mean over layers. Undefined for no layers.
torch::Tensor router_z_loss(const std::vector<Routing>& layers);

} // namespace moe
