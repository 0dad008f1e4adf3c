#include "moe/generation/routing_plan.h"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace moe {
namespace {

void add_chosen_experts(
    const TopKRouterOptions& options,
    const PackedLayer& layer,
    int64_t token,
    const float* logits,
    RoutingPlan& plan) {
  route_token(options, logits, data_or_null(layer.selection_bias), plan.routing);
  for (const auto& [expert, weight] : plan.routing.chosen) {
    plan.members.push_back({&layer.experts, expert, token, weight});
  }
}

void add_shared_expert(
    const PackedLayer& layer, int64_t token, float gate_logit, RoutingPlan& plan) {
  const bool gated = layer.shared_expert_gate.rows > 0;
  const float weight = gated ? 1.0F / (1.0F + std::exp(-gate_logit)) : 1.0F;
  plan.members.push_back({&layer.shared_expert, 0, token, weight});
}

bool same_network(const PlanMember& left, const PlanMember& right) {
  return left.network == right.network && left.expert == right.expert;
}

void group_members(RoutingPlan& plan) {
  plan.groups.clear();
  for (size_t i = 0; i < plan.members.size(); ++i) {
    if (i == 0 || !same_network(plan.members[i - 1], plan.members[i])) {
      plan.groups.push_back({static_cast<int64_t>(i), 0});
    }
    ++plan.groups.back().count;
  }
}

} // namespace

void make_routing_plan(
    const TopKRouterOptions& options,
    const PackedLayer& layer,
    int64_t tokens,
    const float* logits,
    RoutingPlan& plan) {
  plan.members.clear();
  const bool dense = layer.router.rows == 0;
  const int64_t stride = options.num_experts() + 1;
  for (int64_t t = 0; t < tokens; ++t) {
    if (dense) {
      plan.members.push_back({&layer.experts, 0, t, 1.0F});
    } else {
      add_chosen_experts(options, layer, t, logits + t * stride, plan);
    }
  }
  std::sort(plan.members.begin(), plan.members.end(), [](const auto& a, const auto& b) {
    return std::tie(a.expert, a.token) < std::tie(b.expert, b.token);
  });
  for (int64_t t = 0; t < tokens && layer.shared_expert.experts > 0; ++t) {
    add_shared_expert(layer, t, dense ? 0.0F : logits[t * stride + stride - 1], plan);
  }
  group_members(plan);
}

} // namespace moe
