#pragma once

#include "moe/layers/routing.h"

#include "moe/libtorch.h"

namespace moe {

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
  /// Divides the weights of the chosen experts by their sum. Default: true
  TORCH_ARG(bool, normalize_weights) = true;
  /// Multiplies the weights of the chosen experts. Default: 1
  TORCH_ARG(double, routed_scaling_factor) = 1.0;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
};

/// Chooses K of E experts for every token and weights them:
///
/// 1. logits = x · weightᵀ
/// 2. scores = softmax(logits) over all E experts
/// 3. experts = the K highest scores
/// 4. weights = their scores, divided by their sum if `normalize_weights`, times
///    `routed_scaling_factor`
///
/// All of it is computed in float32, or in the input's type if that is wider, also under
/// autocast.
class TopKRouterImpl : public torch::nn::Cloneable<TopKRouterImpl> {
 public:
  TopKRouterImpl(int64_t model_dim, int64_t num_experts)
      : TopKRouterImpl(TopKRouterOptions(model_dim, num_experts)) {}
  explicit TopKRouterImpl(const TopKRouterOptions& options_);

  void reset() override;
  /// Draws new initial weights.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `input` [T, D].
  Routing forward(const torch::Tensor& input);

  /// The options with which this module was made; changes after construction have no effect.
  TopKRouterOptions options;
  torch::Tensor weight; ///< [E, D]
};

TORCH_MODULE(TopKRouter);

} // namespace moe
