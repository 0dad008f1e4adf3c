#pragma once

#include "moe/layers/router_options.h"
#include "moe/layers/routing.h"

#include "moe/libtorch.h"

namespace moe {

/// Chooses experts for every token and weights them:
///
/// 1. logits = x · weightᵀ or a cosine, plus a bias and bent by a cap if there are any
/// 2. scores = a function of the logits
/// 3. experts = the selection, by the scores or otherwise
/// 4. weights = a function of the scores or logits of the chosen, times
/// `routed_scaling_factor`.
///    Softmax scores divided by their sum are the softmax over the chosen.
///
/// In training only, the input may be multiplied by jitter, the logits get noise, and rows
/// beyond an expert's capacity are dropped. Random numbers come from LibTorch's default
/// generator, as in `torch::nn::Dropout`.
///
/// All of it is computed in float32, or in the input's type if that is wider, also under
/// autocast.
class TopKRouterImpl : public torch::nn::Cloneable<TopKRouterImpl> {
 public:
  TopKRouterImpl(int64_t model_dim, int64_t num_experts)
      : TopKRouterImpl(TopKRouterOptions(model_dim, num_experts)) {}
  explicit TopKRouterImpl(const TopKRouterOptions& options_);

  void reset() override;
  /// Draws new initial weights; biases and the width of the noise become 0 before softplus.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// Moves and converts, but for `selection_bias`, which stays in float32 or wider.
  void to(torch::Device device, torch::Dtype dtype, bool non_blocking = false) override;
  void to(torch::Dtype dtype, bool non_blocking = false) override;
  using torch::nn::Module::to;

  /// `input` [T, D]. `token_ids` [T] int64 are asked for by the selection `hash` only.
  Routing forward(const torch::Tensor& input, const torch::Tensor& token_ids = {});

  /// The options with which this module was made; changes after construction have no effect.
  TopKRouterOptions options;
  torch::Tensor weight;         ///< [E, D], or [E, P] behind a projection
  torch::Tensor bias;           ///< [E]; undefined without bias
  torch::Tensor selection_bias; ///< buffer [E] float32; undefined without selection bias
  torch::Tensor projection;     ///< [P, D]; undefined without `cosine_dim`
  torch::Tensor log_scale;      ///< [1]: -ln of the cosine's temperature; undefined if linear
  torch::Tensor noise_weight;   ///< [E, D]; undefined without learned noise

 private:
  torch::Tensor logits(const torch::Tensor& input);
  void choose(Routing& routing, const torch::Tensor& token_ids);

  FORWARD_HAS_DEFAULT_ARGS({1, torch::nn::AnyValue(torch::Tensor())})
};

TORCH_MODULE(TopKRouter);

} // namespace moe
