#include "moe/layers/router_methods.h"

#include <array>
#include <utility>

#include "moe/error.h"

namespace moe {
namespace {

template <class Method, size_t Count>
using MethodNames = std::array<std::pair<Method, std::string_view>, Count>;

constexpr MethodNames<RouterGate, 2> kGates{{
    {RouterGate::linear, "linear"},
    {RouterGate::cosine, "cosine"},
}};
constexpr MethodNames<RouterScore, 4> kScores{{
    {RouterScore::softmax, "softmax"},
    {RouterScore::sigmoid, "sigmoid"},
    {RouterScore::sqrt_softplus, "sqrt_softplus"},
    {RouterScore::identity, "identity"},
}};
constexpr MethodNames<RouterNoise, 2> kNoises{{
    {RouterNoise::none, "none"},
    {RouterNoise::learned, "learned"},
}};
constexpr MethodNames<RouterSelection, 6> kSelections{{
    {RouterSelection::top_k, "top_k"},
    {RouterSelection::groups_by_max, "groups_by_max"},
    {RouterSelection::groups_by_top2, "groups_by_top2"},
    {RouterSelection::sinkhorn, "sinkhorn"},
    {RouterSelection::hash, "hash"},
    {RouterSelection::expert_choice, "expert_choice"},
}};
constexpr MethodNames<RouterWeighting, 3> kWeightings{{
    {RouterWeighting::scores, "scores"},
    {RouterWeighting::softmax, "softmax"},
    {RouterWeighting::sparsemixer, "sparsemixer"},
}};
constexpr MethodNames<CapacityDrop, 2> kDrops{{
    {CapacityDrop::position, "position"},
    {CapacityDrop::score, "score"},
}};

template <class Method, size_t Count>
Method method_from_name(
    const MethodNames<Method, Count>& methods, const char* option, std::string_view name) {
  std::string known;
  for (size_t i = 0; i < Count; ++i) {
    if (methods[i].second == name) {
      return methods[i].first;
    }
    known += i == 0 ? "" : i + 1 == Count ? " or " : ", ";
    known += methods[i].second;
  }
  fail(option, ": '", name, "' is not possible; ", known);
}

bool has_groups(RouterSelection selection) {
  return selection == RouterSelection::groups_by_max ||
         selection == RouterSelection::groups_by_top2;
}

std::string group_conflict(const RouterMethods& methods) {
  const int64_t groups = methods.groups;
  if (groups < 1 || methods.num_experts % groups != 0) {
    return "router_groups: " + std::to_string(groups) + " does not divide num_experts (" +
           std::to_string(methods.num_experts) + ")";
  }
  const int64_t group = methods.num_experts / groups;
  const int64_t kept = methods.groups_kept;
  if (kept < 1 || kept > groups || methods.experts_per_token > group * kept) {
    return "router_groups_kept: " + std::to_string(kept) +
           " groups do not hold experts_per_token (" +
           std::to_string(methods.experts_per_token) + ") experts, or there are not so many";
  }
  if (methods.selection == RouterSelection::groups_by_top2 && group < 2) {
    return "router_groups: " + std::to_string(groups) + " leaves no two experts to a group";
  }
  return {};
}

std::string sparsemixer_conflict(const RouterMethods& methods) {
  if (methods.experts_per_token != 2) {
    return "experts_per_token: " + std::to_string(methods.experts_per_token) +
           " is not possible with sparsemixer, which chooses two";
  }
  if (methods.selection != RouterSelection::top_k || methods.selection_bias) {
    return "router_weighting: sparsemixer chooses by itself, with router_selection top_k and "
           "without router_selection_bias";
  }
  return {};
}

std::string expert_choice_conflict(const RouterMethods& methods) {
  if (methods.capacity_factor > 0.0) {
    return "capacity_factor: experts that choose their tokens (expert_choice) are never too "
           "full";
  }
  if (methods.weighting == RouterWeighting::softmax) {
    return "router_weighting: softmax needs equally many experts for every token, which "
           "expert_choice does not give";
  }
  return {};
}

} // namespace

RouterGate router_gate_from_name(std::string_view name) {
  return method_from_name(kGates, "router_gate", name);
}

RouterScore router_score_from_name(std::string_view name) {
  return method_from_name(kScores, "router_score", name);
}

RouterNoise router_noise_from_name(std::string_view name) {
  return method_from_name(kNoises, "router_noise", name);
}

RouterSelection router_selection_from_name(std::string_view name) {
  return method_from_name(kSelections, "router_selection", name);
}

RouterWeighting router_weighting_from_name(std::string_view name) {
  return method_from_name(kWeightings, "router_weighting", name);
}

CapacityDrop capacity_drop_from_name(std::string_view name) {
  return method_from_name(kDrops, "capacity_drop", name);
}

std::string router_conflict(const RouterMethods& methods) {
  std::string conflict;
  if (has_groups(methods.selection)) {
    conflict = group_conflict(methods);
  }
  if (conflict.empty() && methods.weighting == RouterWeighting::sparsemixer) {
    conflict = sparsemixer_conflict(methods);
  }
  if (conflict.empty() && methods.selection == RouterSelection::expert_choice) {
    conflict = expert_choice_conflict(methods);
  }
  const bool by_scores =
      methods.selection == RouterSelection::top_k || has_groups(methods.selection);
  if (conflict.empty() && methods.selection_bias && !by_scores) {
    conflict =
        "router_selection_bias: changes the choice of the highest scores (top_k, "
        "groups_by_max, groups_by_top2) only";
  }
  if (conflict.empty() && methods.score == RouterScore::identity &&
      methods.weighting == RouterWeighting::scores && methods.normalize_weights) {
    conflict =
        "normalize_weights: identity scores may sum to 0; take router_weighting softmax, "
        "or scores as they are";
  }
  return conflict;
}

bool sees_future(RouterSelection selection, double capacity_factor, CapacityDrop drop) {
  return selection == RouterSelection::expert_choice ||
         selection == RouterSelection::sinkhorn ||
         (capacity_factor > 0.0 && drop == CapacityDrop::score);
}

} // namespace moe
