#pragma once

#include <cstdint>

#include "moe/option_table.h"

namespace moe {

/// What makes logits of a token's representation.
enum class RouterGate {
  linear, ///< x · weightᵀ
  cosine, ///< the cosine between them, divided by a learned temperature (Chi et al., arXiv
          ///< 2204.09179)
};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<RouterGate>{"linear", "cosine"};

/// What makes scores of logits.
enum class RouterScore {
  softmax,       ///< over all experts
  sigmoid,       ///< each expert by itself
  sqrt_softplus, ///< sqrt(ln(1 + exp(logit))), each expert by itself
  identity,      ///< the logits themselves
};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<RouterScore>{
    "softmax", "sigmoid", "sqrt_softplus", "identity"};

/// What disturbs the logits in training.
enum class RouterNoise {
  none,
  learned, ///< normal noise of learned width, noisy top-k (Shazeer et al., arXiv 1701.06538)
};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<RouterNoise>{"none", "learned"};

/// How experts are chosen.
enum class RouterSelection {
  top_k,          ///< the K highest scores
  groups_by_max,  ///< the K highest scores within the groups with the highest scores
  groups_by_top2, ///< the same, groups ranked by the sum of their best two
  sinkhorn,       ///< in training the K best after balancing by Sinkhorn's algorithm (Clark et
                  ///< al., arXiv 2202.01169), otherwise the K highest scores
  hash,           ///< K experts that follow from the token id (Roller et al., arXiv 2106.04426)
  expert_choice,  ///< each expert takes T · K / E tokens (Zhou et al., arXiv 2202.09368)
};
template <>
inline constexpr std::array<std::string_view, 6> enum_names<RouterSelection>{
    "top_k", "groups_by_max", "groups_by_top2", "sinkhorn", "hash", "expert_choice"};

/// What the chosen experts are weighted with.
enum class RouterWeighting {
  scores,      ///< their scores, divided by their sum or norm if so asked
  softmax,     ///< the softmax of their logits among themselves
  sparsemixer, ///< each one's softmax among the experts near it; two experts, which are sampled
               ///< in training (Liu et al., arXiv 2409.12136)
};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<RouterWeighting>{
    "scores", "softmax", "sparsemixer"};

/// Which rows an expert with too many keeps.
enum class CapacityDrop {
  position, ///< those of the first tokens
  score,    ///< those with the highest scores
};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<CapacityDrop>{"position", "score"};

/// How a router decides. `router_form.cpp` says what each field does, in the rows that flags,
/// files and help are made from.
struct RouterForm {
  bool normalize_weights = true;
  double routed_scaling_factor = 1.0;
  RouterScore score = RouterScore::softmax;
  RouterGate gate = RouterGate::linear;
  int64_t cosine_dim = 0;
  double cosine_temperature = 0.5;
  bool bias = false;
  double logit_cap = 0.0;
  double jitter = 0.0;
  RouterNoise noise = RouterNoise::none;
  RouterSelection selection = RouterSelection::top_k;
  bool selection_bias = false;
  int64_t groups = 1;
  int64_t groups_kept = 1;
  RouterWeighting weighting = RouterWeighting::scores;
  double sparsemixer_jitter = 0.01;
  double normalize_power = 1.0;
  double normalize_minimum = 0.0;
  bool weights_on_input = false;
  double capacity_factor = 0.0;
  CapacityDrop capacity_drop = CapacityDrop::position;
  bool sees_future = false;

  bool operator==(const RouterForm&) const = default;
};

template <>
const OptionTable<RouterForm>& option_table<RouterForm>();

/// Whether experts are chosen within the best groups of them.
bool selects_by_groups(const RouterForm& form);

/// Whether in training the experts of a token depend on tokens after it.
bool depends_on_future(const RouterForm& form);

/// Why there is no such router of `num_experts` with `experts_per_token`, as "option: reason";
/// empty if there is.
std::string router_problem(
    const RouterForm& form, int64_t num_experts, int64_t experts_per_token);

} // namespace moe
