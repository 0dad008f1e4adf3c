#include "moe/layers/router_form.h"

namespace moe {
namespace {

bool weighs_by_scores(const RouterForm& form) {
  return form.weighting == RouterWeighting::scores;
}

bool divides_weights(const RouterForm& form) {
  return weighs_by_scores(form) && form.normalize_weights;
}

bool has_groups(const RouterForm& form) {
  return selects_by_groups(form) && form.groups > 1;
}

bool is_cosine(const RouterForm& form) {
  return form.gate == RouterGate::cosine;
}

bool is_sparsemixer(const RouterForm& form) {
  return form.weighting == RouterWeighting::sparsemixer;
}

bool has_capacity(const RouterForm& form) {
  return form.capacity_factor > 0.0;
}

OptionTable<RouterForm> router_rows() {
  using Form = RouterForm;
  using enum OptionRange;
  using enum OptionSupport;
  return {
      option(
          "normalize_weights",
          &Form::normalize_weights,
          "Divide the weights of the chosen experts by their sum.",
          {.matters = weighs_by_scores, .support = plain}),
      option(
          "routed_scaling_factor",
          &Form::routed_scaling_factor,
          "Multiplies the weights of the chosen experts.",
          {.range = finite, .support = plain}),
      option(
          "router_score",
          &Form::score,
          "What makes scores of the router's logits: softmax over all experts, sigmoid, "
          "sqrt_softplus or identity.",
          {.support = packed}),
      option(
          "router_gate",
          &Form::gate,
          "What makes logits of a token: linear; cosine: the cosine to each expert's vector, "
          "divided by a learned temperature."),
      option(
          "router_cosine_dim",
          &Form::cosine_dim,
          "cosine: width of a learned projection before it; 0 for none.",
          {.range = at_least_0, .matters = is_cosine}),
      option(
          "router_cosine_temperature",
          &Form::cosine_temperature,
          "cosine: initial temperature.",
          {.range = above_0, .matters = is_cosine}),
      option(
          "router_bias",
          &Form::bias,
          "Add a learned bias to the router's logits.",
          {.support = packed}),
      option(
          "router_logit_cap",
          &Form::logit_cap,
          "Bend the router's logits to plus or minus this by tanh; 0 for no limit.",
          {.range = at_least_0}),
      option(
          "router_jitter",
          &Form::jitter,
          "In training, multiply each element of the router's input by a random number within "
          "this of 1; 0 for none.",
          {.range = from_0_below_1, .support = plain, .training_only = true}),
      option(
          "router_noise",
          &Form::noise,
          "In training, add to the router's logits: none; learned: normal noise of learned "
          "width "
          "(noisy top-k)."),
      option(
          "router_selection",
          &Form::selection,
          "How experts are chosen: top_k; groups_by_max or groups_by_top2: top_k within the "
          "best "
          "groups by their best score or the sum of their best two; sinkhorn: top_k, in "
          "training "
          "balanced over the batch; hash: by the token id; expert_choice: each expert chooses "
          "equally many tokens.",
          {.support = packed}),
      option(
          "router_selection_bias",
          &Form::selection_bias,
          "Add a bias per expert to the scores for the choice only; a float32 buffer that "
          "gradients do not change.",
          {.support = packed}),
      option(
          "router_groups",
          &Form::groups,
          "Groups of equally many experts.",
          {.matters = has_groups, .support = packed}),
      option(
          "router_groups_kept",
          &Form::groups_kept,
          "Groups within which experts are chosen.",
          {.matters = has_groups, .support = packed}),
      option(
          "router_weighting",
          &Form::weighting,
          "What the chosen experts are weighted with: scores; softmax of their logits among "
          "themselves; sparsemixer.",
          {.support = packed}),
      option(
          "sparsemixer_jitter",
          &Form::sparsemixer_jitter,
          "sparsemixer: experts whose logits are within twice this part of the best one share "
          "its softmax.",
          {.range = at_least_0, .matters = is_sparsemixer}),
      option(
          "normalize_power",
          &Form::normalize_power,
          "Divide by the norm of this order instead of the sum.",
          {.range = above_0, .matters = divides_weights}),
      option(
          "normalize_minimum",
          &Form::normalize_minimum,
          "Divide by at least this.",
          {.range = at_least_0, .matters = divides_weights, .support = packed}),
      option(
          "weights_on_input",
          &Form::weights_on_input,
          "Multiply the input of each chosen expert with its weight instead of its output."),
      option(
          "capacity_factor",
          &Form::capacity_factor,
          "In training, an expert computes at most this times the even share of a batch's rows "
          "and drops the rest; 0 for no limit.",
          {.range = at_least_0, .support = plain, .training_only = true}),
      option(
          "capacity_drop",
          &Form::capacity_drop,
          "Which rows a full expert keeps: position: those of the first tokens; score: those "
          "with the highest scores.",
          {.matters = has_capacity, .support = plain, .training_only = true}),
      option(
          "router_sees_future",
          &Form::sees_future,
          "Allow routing by which a token's experts depend on tokens after it: expert_choice, "
          "sinkhorn, capacity_drop score.",
          {.support = plain, .training_only = true}),
  };
}

std::string group_problem(
    const RouterForm& form, int64_t num_experts, int64_t experts_per_token) {
  const int64_t groups = form.groups;
  if (groups < 1 || num_experts % groups != 0) {
    return "router_groups: " + std::to_string(groups) + " does not divide num_experts (" +
           std::to_string(num_experts) + ")";
  }
  const int64_t group = num_experts / groups;
  const int64_t kept = form.groups_kept;
  if (kept < 1 || kept > groups || experts_per_token > group * kept) {
    return "router_groups_kept: " + std::to_string(kept) +
           " groups do not hold experts_per_token (" + std::to_string(experts_per_token) +
           ") experts, or there are not so many";
  }
  if (form.selection == RouterSelection::groups_by_top2 && group < 2) {
    return "router_groups: " + std::to_string(groups) + " leaves no two experts to a group";
  }
  return {};
}

std::string sparsemixer_problem(const RouterForm& form, int64_t experts_per_token) {
  if (experts_per_token != 2) {
    return "experts_per_token: " + std::to_string(experts_per_token) +
           " is not possible with sparsemixer, which chooses two";
  }
  if (form.selection != RouterSelection::top_k || form.selection_bias) {
    return "router_weighting: sparsemixer chooses by itself, with router_selection top_k and "
           "without router_selection_bias";
  }
  return {};
}

std::string expert_choice_problem(const RouterForm& form) {
  if (has_capacity(form)) {
    return "capacity_factor: experts that choose their tokens (expert_choice) are never too "
           "full";
  }
  if (form.weighting == RouterWeighting::softmax) {
    return "router_weighting: softmax needs equally many experts for every token, which "
           "expert_choice does not give";
  }
  return {};
}

/// What does not fit each other, whatever the numbers of experts.
std::string method_problem(const RouterForm& form) {
  const bool by_scores = form.selection == RouterSelection::top_k || selects_by_groups(form);
  if (form.selection_bias && !by_scores) {
    return "router_selection_bias: changes the choice of the highest scores (top_k, "
           "groups_by_max, groups_by_top2) only";
  }
  if (form.score == RouterScore::identity && divides_weights(form)) {
    return "normalize_weights: identity scores may sum to 0; take router_weighting softmax, "
           "or scores as they are";
  }
  return {};
}

} // namespace

template <>
const OptionTable<RouterForm>& option_table<RouterForm>() {
  static const auto table = router_rows();
  return table;
}

bool selects_by_groups(const RouterForm& form) {
  return form.selection == RouterSelection::groups_by_max ||
         form.selection == RouterSelection::groups_by_top2;
}

bool depends_on_future(const RouterForm& form) {
  return form.selection == RouterSelection::expert_choice ||
         form.selection == RouterSelection::sinkhorn ||
         (has_capacity(form) && form.capacity_drop == CapacityDrop::score);
}

std::string router_problem(
    const RouterForm& form, int64_t num_experts, int64_t experts_per_token) {
  auto found = range_problem(form);
  if (found.empty() && (experts_per_token < 1 || experts_per_token > num_experts)) {
    found = "experts_per_token: " + std::to_string(experts_per_token) +
            " is not in 1 to num_experts (" + std::to_string(num_experts) + ")";
  }
  if (found.empty() && selects_by_groups(form)) {
    found = group_problem(form, num_experts, experts_per_token);
  }
  if (found.empty() && is_sparsemixer(form)) {
    found = sparsemixer_problem(form, experts_per_token);
  }
  if (found.empty() && form.selection == RouterSelection::expert_choice) {
    found = expert_choice_problem(form);
  }
  return found.empty() ? method_problem(form) : found;
}

} // namespace moe
