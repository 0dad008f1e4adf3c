#include "moe/generation/routing_plan.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "moe/kernels/cpu_softmax.h"

namespace moe {
namespace {

// What no score is.
constexpr float kChosen = -1.0F;

void add_chosen_experts(
    const DecoderOptions& options,
    const PackedExperts& experts,
    int64_t token,
    const float* logits,
    RoutingPlan& plan) {
  auto& scores = plan.scores;
  scores.assign(logits, logits + options.num_experts);
  cpu::softmax_row(options.num_experts, scores.data());
  const size_t first = plan.members.size();
  float sum = 0.0F;
  for (int64_t k = 0; k < options.experts_per_token; ++k) {
    const auto best = std::max_element(scores.begin(), scores.end());
    plan.members.push_back({&experts, best - scores.begin(), token, *best});
    sum += *best;
    *best = kChosen;
  }
  const auto scale = static_cast<float>(options.routed_scaling_factor);
  for (size_t i = first; i < plan.members.size(); ++i) {
    plan.members[i].weight *= options.normalize_weights ? scale / sum : scale;
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
    const DecoderOptions& options,
    const PackedLayer& layer,
    int64_t tokens,
    const float* logits,
    RoutingPlan& plan) {
  plan.members.clear();
  const bool dense = layer.router.rows == 0;
  const int64_t stride = options.num_experts + 1;
  for (int64_t t = 0; t < tokens; ++t) {
    if (dense) {
      plan.members.push_back({&layer.experts, 0, t, 1.0F});
    } else {
      add_chosen_experts(options, layer.experts, t, logits + t * stride, plan);
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
