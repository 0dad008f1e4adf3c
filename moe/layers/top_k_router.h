#pragma once

#include "moe/layers/routing.h"

#include "moe/libtorch.h"

namespace moe {

/// What makes scores of logits.
enum class RouterScore {
  softmax, ///< over all experts
  sigmoid, ///< each expert by itself
};

/// How K experts are chosen.
enum class RouterSelection {
  top_k,          ///< the highest scores
  groups_by_max,  ///< the highest scores within the groups with the highest scores
  groups_by_top2, ///< the same, groups ranked by the sum of their best two
};

/// What the chosen experts are weighted with.
enum class RouterWeighting {
  scores,      ///< their scores, divided by their sum if `normalize_weights`
  sparsemixer, ///< each one's softmax among the experts near it (Liu et al., arXiv 2409.12136,
               ///< as in inference)
};

/// Options for the `TopKRouter` module.
///
/// Example:
/// ```
/// TopKRouter router(TopKRouterOptions(/*model_dim=*/512,
/// /*num_experts=*/64).experts_per_token(8));
/// ```
struct TopKRouterOptions {
  TopKRouterOptions(int64_t model_dim, int64_t num_experts);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Number of experts E to choose from.
  TORCH_ARG(int64_t, num_experts);
  /// Number of experts K that each token goes to. Default: 2, or num_experts if that is less
  TORCH_ARG(int64_t, experts_per_token);
  /// Adds a learned bias to the logits. Default: false
  TORCH_ARG(bool, bias) = false;
  /// Bends logits to plus or minus this by tanh; 0 for no limit. Default: 0
  TORCH_ARG(double, logit_cap) = 0.0;
  /// What makes scores of logits. Default: softmax
  TORCH_ARG(RouterScore, score) = RouterScore::softmax;
  /// How experts are chosen. Default: top_k
  TORCH_ARG(RouterSelection, selection) = RouterSelection::top_k;
  /// Adds `selection_bias` to the scores for the choice, not for the weights. Default: false
  TORCH_ARG(bool, has_selection_bias) = false;
  /// Groups of equally many experts, for a choice by groups. Default: 1
  TORCH_ARG(int64_t, num_groups) = 1;
  /// Groups within which experts are chosen. Default: 1
  TORCH_ARG(int64_t, groups_kept) = 1;
  /// What the chosen experts are weighted with. Default: scores
  TORCH_ARG(RouterWeighting, weighting) = RouterWeighting::scores;
  /// Divides the weights of the chosen experts by their sum. Default: true
  TORCH_ARG(bool, normalize_weights) = true;
  /// Divides by the norm of this order instead of the sum. Default: 1
  TORCH_ARG(double, normalize_power) = 1.0;
  /// Divides by at least this. Default: 0
  TORCH_ARG(double, normalize_minimum) = 0.0;
  /// Multiplies the weights of the chosen experts. Default: 1
  TORCH_ARG(double, routed_scaling_factor) = 1.0;
  /// sparsemixer: experts whose logits are within twice this part share a softmax. Default:
  /// 0.01
  TORCH_ARG(double, sparsemixer_jitter) = 0.01;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
};

/// Chooses K of E experts for every token and weights them:
///
/// 1. logits = x · weightᵀ, plus a bias and bent by a cap if there are any
/// 2. scores = softmax or sigmoid of the logits
/// 3. experts = the K highest scores, plus the selection bias if there is one, of all experts
/// or
///    of the best groups
/// 4. weights = the scores of the chosen experts, divided by their sum if `normalize_weights`,
///    times `routed_scaling_factor`. With softmax scores that is the softmax over the chosen.
///
/// All of it is computed in float32, or in the input's type if that is wider, also under
/// autocast.
class TopKRouterImpl : public torch::nn::Cloneable<TopKRouterImpl> {
 public:
  TopKRouterImpl(int64_t model_dim, int64_t num_experts)
      : TopKRouterImpl(TopKRouterOptions(model_dim, num_experts)) {}
  explicit TopKRouterImpl(const TopKRouterOptions& options_);

  void reset() override;
  /// Draws new initial weights; biases become 0.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// Moves and converts, but for `selection_bias`, which stays in float32 or wider.
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  using torch::nn::Module::to;

  /// `input` [T, D].
  Routing forward(const torch::Tensor& input);

  /// The options with which this module was made; changes after construction have no effect.
  TopKRouterOptions options;
  torch::Tensor weight;         ///< [E, D]
  torch::Tensor bias;           ///< [E]; undefined without bias
  torch::Tensor selection_bias; ///< buffer [E] float32; undefined without selection bias
};

TORCH_MODULE(TopKRouter);

} // namespace moe
