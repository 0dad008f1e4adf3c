#pragma once

#include <cstdint>
#include <vector>

#include "moe/generation/packed_decoder.h"
#include "moe/generation/token_routing.h"

namespace moe {

/// One token in one network of a layer.
struct PlanMember {
  const PackedExperts* network;
  int64_t expert; ///< in the network's stack
  int64_t token;
  float weight; ///< of the network's result
};

/// Some tokens that go through the same network: members `first` to `first + count - 1`.
struct PlanGroup {
  int64_t first;
  int64_t count;
};

/// Which networks the tokens of one step go through in a layer: experts ascending, within an
/// expert tokens ascending, the shared expert last.
struct RoutingPlan {
  std::vector<PlanMember> members;
  std::vector<PlanGroup> groups;
  TokenRouting routing; ///< of one token
};

/// The networks of a few tokens. `logits` [tokens, E + 1]: the router's with its bias, then
/// that of the shared expert's gate. They are not read for a dense layer. Fills `plan`, whose
/// memory is used again.
void make_routing_plan(
    const TopKRouterOptions& options,
    const PackedLayer& layer,
    int64_t tokens,
    const float* logits,
    RoutingPlan& plan);

} // namespace moe
