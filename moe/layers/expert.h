#pragma once

#include "moe/kernels/expert_form.h"
#include "moe/kernels/expert_mlp.h"
#include "moe/libtorch.h"

namespace moe {

/// Options for the `Expert` module.
///
/// Example:
/// ```
/// Expert expert(ExpertOptions(/*model_dim=*/64, /*expert_dim=*/256)
///                   .form({.activation = Activation::gelu, .gated = false}));
/// ```
struct ExpertOptions {
  ExpertOptions(int64_t model_dim, int64_t expert_dim);
  /// Width D of a token's representation.
  TORCH_ARG(int64_t, model_dim);
  /// Hidden width F.
  TORCH_ARG(int64_t, expert_dim);
  /// What it computes. Default: SwiGLU
  TORCH_ARG(ExpertForm, form) = {};
  /// Adds a learned bias to each projection. Default: false
  TORCH_ARG(bool, bias) = false;
  /// Standard deviation of the initial weights. Default: 0.02
  TORCH_ARG(double, initializer_range) = 0.02;
  /// Standard deviation of the initial weights of `down_proj`. Default: 0.02
  TORCH_ARG(double, output_initializer_range) = 0.02;
};

/// One feed-forward network, by default SwiGLU: `down(silu(gate(x)) · up(x))`. It is also the
/// dense feed-forward layer of a decoder block and the shared expert of a `SparseMoEBlock`.
class ExpertImpl : public torch::nn::Cloneable<ExpertImpl> {
 public:
  ExpertImpl(int64_t model_dim, int64_t expert_dim)
      : ExpertImpl(ExpertOptions(model_dim, expert_dim)) {}
  explicit ExpertImpl(const ExpertOptions& options_);
  /// A view of weights that belong to somebody else: nothing is registered, so it has no
  /// `parameters()` and is not for optimizers, `to()` or `clone()`.
  ExpertImpl(const ExpertOptions& options_, const ExpertWeights& weights);

  void reset() override;
  /// Draws new initial weights; biases become 0.
  void reset_parameters();
  void pretty_print(std::ostream& stream) const override;

  /// `input` [..., D] -> [..., D].
  torch::Tensor forward(const torch::Tensor& input);

  /// The options with which this module was made; changes after construction have no effect.
  ExpertOptions options;
  torch::Tensor gate_up_proj; ///< [2F, D], gate rows first; undefined unless gated
  torch::Tensor up_proj;      ///< [F, D]; undefined if gated
  torch::Tensor down_proj;    ///< [D, F]
  torch::Tensor gate_up_bias; ///< [2F]; undefined unless gated with bias
  torch::Tensor up_bias;      ///< [F]; undefined unless ungated with bias
  torch::Tensor down_bias;    ///< [D]; undefined without bias
};

TORCH_MODULE(Expert);

} // namespace moe
