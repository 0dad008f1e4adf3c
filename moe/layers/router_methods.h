#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace moe {

/// What makes logits of a token's representation.
enum class RouterGate {
  linear, ///< x · weightᵀ
  cosine, ///< the cosine between them, divided by a learned temperature (Chi et al., arXiv
          ///< 2204.09179)
};

/// What makes scores of logits.
enum class RouterScore {
  softmax,       ///< over all experts
  sigmoid,       ///< each expert by itself
  sqrt_softplus, ///< sqrt(ln(1 + exp(logit))), each expert by itself
  identity,      ///< the logits themselves
};

/// What disturbs the logits in training.
enum class RouterNoise {
  none,
  learned, ///< normal noise of learned width, noisy top-k (Shazeer et al., arXiv 1701.06538)
};

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

/// What the chosen experts are weighted with.
enum class RouterWeighting {
  scores,      ///< their scores, divided by their sum or norm if so asked
  softmax,     ///< the softmax of their logits among themselves
  sparsemixer, ///< each one's softmax among the experts near it; two experts, which are sampled
               ///< in training (Liu et al., arXiv 2409.12136)
};

/// Which rows an expert with too many keeps.
enum class CapacityDrop {
  position, ///< those of the first tokens
  score,    ///< those with the highest scores
};

/// The inverse of a method's name in options and configuration files, which is that of its
/// enumerator. Throws `Error` naming the option and the known ones.
RouterGate router_gate_from_name(std::string_view name);
RouterScore router_score_from_name(std::string_view name);
RouterNoise router_noise_from_name(std::string_view name);
RouterSelection router_selection_from_name(std::string_view name);
RouterWeighting router_weighting_from_name(std::string_view name);
CapacityDrop capacity_drop_from_name(std::string_view name);

/// The choices of a router that must fit each other.
struct RouterMethods {
  RouterScore score = RouterScore::softmax;
  RouterSelection selection = RouterSelection::top_k;
  RouterWeighting weighting = RouterWeighting::scores;
  bool selection_bias = false;
  bool normalize_weights = true;
  double capacity_factor = 0.0;
  int64_t num_experts = 1;
  int64_t experts_per_token = 1;
  int64_t groups = 1;
  int64_t groups_kept = 1;
};

/// Why there is no such router, as "option: reason"; empty if there is.
std::string router_conflict(const RouterMethods& methods);

/// Whether in training the experts of a token depend on tokens after it.
bool sees_future(RouterSelection selection, double capacity_factor, CapacityDrop drop);

} // namespace moe
