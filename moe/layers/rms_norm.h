#pragma once

#include "moe/layers/norm_form.h"
#include "moe/libtorch.h"

namespace moe {

/// Options for the `RMSNorm` module.
///
/// Example:
/// ```
/// RMSNorm norm(RMSNormOptions(/*dim=*/512).form({.epsilon = 1e-5}));
/// ```
struct RMSNormOptions {
  /* implicit */ RMSNormOptions(int64_t dim);
  /// Width of the last dimension.
  TORCH_ARG(int64_t, dim);
  /// What is added to the mean square, and whether the mean is subtracted and a bias added.
  TORCH_ARG(NormForm, form) = {};
};

/// Root mean square normalisation: `weight · x / sqrt(mean(x²) + epsilon)` over the last
/// dimension, computed in float32 or wider. With `center` x is first freed of its mean, with
/// `bias` a bias is added: layer normalisation.
class RMSNormImpl : public torch::nn::Cloneable<RMSNormImpl> {
 public:
  explicit RMSNormImpl(int64_t dim) : RMSNormImpl(RMSNormOptions(dim)) {}
  explicit RMSNormImpl(const RMSNormOptions& options_);

  void reset() override;
  /// Sets the weights to 1.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `input` [..., dim] -> [..., dim], of the input's type.
  torch::Tensor forward(const torch::Tensor& input);

  /// The options with which this module was made; changes after construction have no effect.
  RMSNormOptions options;
  torch::Tensor weight; ///< [dim]
  torch::Tensor bias;   ///< [dim]; undefined without bias
};

TORCH_MODULE(RMSNorm);

} // namespace moe
