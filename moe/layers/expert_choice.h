#pragma once

#include <torch/types.h>

namespace moe {

/// The tokens that each expert chooses: [T, E] bool with T · K / E (rounded up) of each
/// expert's best. `preference` [T, E]: how much each expert wants each token.
///
/// What an expert chooses depends on all tokens: in a causal model a token learns from what
/// follows it, and a token alone is not routed as it is among others.
torch::Tensor expert_choice(const torch::Tensor& preference, int64_t experts_per_token);

} // namespace moe
