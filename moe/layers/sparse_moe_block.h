#pragma once

#include <optional>

#include "moe/layers/expert.h"
#include "moe/layers/rms_norm.h"
#include "moe/layers/routing.h"
#include "moe/layers/top_k_router.h"
#include "moe/libtorch.h"

#include <torch/nn/modules/common.h>
#include <torch/nn/modules/container/any_value.h>

namespace moe {

/// Options for the `SparseMoEBlock` module.
///
/// Example:
/// ```
/// SparseMoEBlock block(SparseMoEBlockOptions(/*model_dim=*/512, /*num_experts=*/64)
///                          .experts_per_token(8)
///                          .expert_dim(256));
/// ```
struct SparseMoEBlockOptions {
  SparseMoEBlockOptions(int64_t model_dim, int64_t num_experts);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Number of routed experts E.
  TORCH_ARG(int64_t, num_experts);
  /// The router, which must be of the same model_dim and num_experts. Default: TopKRouter's own
  TORCH_ARG(TopKRouterOptions, router);

 public:
  /// Sets the number of experts K that each token goes to, which is the router's. Default: 2,
  /// or num_experts if that is less
  SparseMoEBlockOptions& experts_per_token(int64_t count);
  int64_t experts_per_token() const;
  /// Hidden width F of a routed expert. Default: 4 · model_dim
  TORCH_ARG(int64_t, expert_dim);
  /// What the experts compute. Default: SwiGLU
  TORCH_ARG(ExpertForm, expert) = {};
  /// Adds a learned bias to each projection of the experts. Default: false
  TORCH_ARG(bool, bias) = false;
  /// Hidden width of an expert that every token passes; 0 for none. Default: 0
  TORCH_ARG(int64_t, shared_expert_dim) = 0;
  /// Scales the shared expert by the sigmoid of a learned projection to one number. Default:
  /// false
  TORCH_ARG(bool, shared_expert_gate) = false;
  /// Adds a learned bias to each projection of the shared expert even without `bias`. Default:
  /// false
  TORCH_ARG(bool, shared_expert_bias) = false;
  /// Multiplies the output of the block. Default: 1
  TORCH_ARG(double, output_multiplier) = 1.0;
  /// Normalises the output of the block by a norm with these options. Default: no norm
  TORCH_ARG(std::optional<RMSNormOptions>, output_norm) = std::nullopt;

 public:
  /// Sets the standard deviation of the initial weights of router and experts. Default: 0.02
  SparseMoEBlockOptions& initializer_range(double range);
  double initializer_range() const;
  /// Standard deviation of the initial weights of `down_proj`. Default: 0.02
  TORCH_ARG(double, output_initializer_range) = 0.02;

 private:
  double initializer_range_ = 0.02;
};

/// A block's result together with the decision behind it.
struct SparseMoEOutput {
  torch::Tensor output; ///< [..., D]
  Routing routing;      ///< over the T tokens of the input, leading dimensions flattened
};

/// A mixture of experts in place of a feed-forward layer. For every token x:
///
/// 1. the router chooses K of E experts and weights them;
/// 2. each chosen expert computes a feed-forward network of x;
/// 3. the output is their weighted sum, plus the shared expert's output if there is one, times
///    `output_multiplier` and normalised if there is an `output_norm`.
///
/// No token is dropped unless the router has a capacity. With K = E it is the dense mixture of
/// all experts, with E = 1 the plain feed-forward layer. The experts are held stacked in two
/// parameters. The result of the experts is the same bits for any number of threads; an expert
/// that receives no token gets a gradient of zeros.
///
/// Example:
/// ```
/// torch::Tensor y = block(x);                              // [..., D] -> [..., D]
/// SparseMoEOutput out = block->forward_with_routing(x);
/// torch::Tensor loss = task_loss + 0.01 * load_balancing_loss(out.routing);
/// ```
class SparseMoEBlockImpl : public torch::nn::Cloneable<SparseMoEBlockImpl> {
 public:
  SparseMoEBlockImpl(int64_t model_dim, int64_t num_experts)
      : SparseMoEBlockImpl(SparseMoEBlockOptions(model_dim, num_experts)) {}
  explicit SparseMoEBlockImpl(const SparseMoEBlockOptions& options_);

  void reset() override;
  /// Draws new initial weights for the router and all experts; biases become 0.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `input` [..., D] -> [..., D]. `token_ids` [...] int64 are asked for by a router that
  /// chooses by hash only.
  torch::Tensor forward(const torch::Tensor& input, const torch::Tensor& token_ids = {});

  /// The same with the routing decision, which losses and statistics are computed from.
  SparseMoEOutput forward_with_routing(
      const torch::Tensor& input, const torch::Tensor& token_ids = {});

  /// A view of routed expert `index`, made anew on each call. It shares storage and gradients
  /// with the stacked parameters, is not registered, is not for optimizers, and is invalid
  /// after `to()` or `clone()`.
  Expert expert(int64_t index);

  /// The stacked weights as the kernels take them.
  ExpertWeights expert_weights() const;

  /// The options with which this module was made; changes after construction have no effect.
  SparseMoEBlockOptions options;
  TopKRouter router{nullptr};
  torch::Tensor gate_up_proj; ///< [E, 2F, D], gate rows first; undefined unless gated
  torch::Tensor up_proj;      ///< [E, F, D]; undefined if gated
  torch::Tensor down_proj;    ///< [E, D, F]
  torch::Tensor gate_up_bias; ///< [E, 2F]; undefined unless gated with bias
  torch::Tensor up_bias;      ///< [E, F]; undefined unless ungated with bias
  torch::Tensor down_bias;    ///< [E, D]; undefined without bias
  Expert shared_expert{nullptr};
  torch::nn::Linear shared_expert_gate{nullptr};
  RMSNorm output_norm{nullptr};

 private:
  torch::Tensor run_experts(const torch::Tensor& tokens, const Routing& routing);
  torch::Tensor run_weighted_inputs(const torch::Tensor& tokens, const Routing& routing);
  torch::Tensor run_rows(const torch::Tensor& tokens, const Dispatch& rows);
  torch::Tensor run_shared_expert(const torch::Tensor& tokens);

  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(torch::Tensor())})
};

TORCH_MODULE(SparseMoEBlock);

} // namespace moe
