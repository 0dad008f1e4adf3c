#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/layers/router_options.h"

namespace moe {

/// An expert that a token chose, and what its result is multiplied with.
struct ChosenExpert {
  int64_t expert;
  float weight;
};

/// The experts of one token, and space to find them in.
struct TokenRouting {
  std::vector<ChosenExpert> chosen; ///< K, the one with the highest preference first
  std::vector<float> scores;        ///< [E]
  std::vector<float> preference;    ///< [E]: scores with bias, minus infinity outside of groups
  std::vector<float> group_rank;    ///< [groups]
  std::vector<int64_t> best;        ///< [K] or [groups kept]
};

/// Chooses experts as `TopKRouter` does outside of training, for one token and without tensors.
/// `logits` [E] have the router's bias; `selection_bias` [E] is null for none. Takes what
/// `can_route_token` allows; the memory of `routing` is used again.
void route_token(
    const TopKRouterOptions& options,
    const float* logits,
    const float* selection_bias,
    TokenRouting& routing);

/// Whether `route_token` knows these options: every score; top-k of all experts or of the best
/// groups; weights that are scores or a softmax, divided by their sum or not.
bool can_route_token(const TopKRouterOptions& options);

} // namespace moe
