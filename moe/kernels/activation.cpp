#include "moe/kernels/activation.h"

#include "moe/libtorch.h"

namespace moe {
namespace {

torch::Tensor apply(const torch::Tensor& x, Activation activation) {
  switch (activation) {
    case Activation::silu:
      return torch::silu(x);
    case Activation::gelu:
      return torch::gelu(x);
    case Activation::gelu_tanh:
      return torch::gelu(x, "tanh");
    case Activation::relu:
      return torch::relu(x);
    case Activation::relu_squared:
      return torch::relu(x).square();
  }
  TORCH_CHECK(false, "activate: unknown activation ", static_cast<int>(activation));
}

} // namespace

torch::Tensor activate(const torch::Tensor& projected, const ExpertForm& form) {
  if (!form.gated) {
    return apply(projected, form.activation);
  }
  const auto halves = projected.chunk(2, /*dim=*/-1);
  return apply(halves[0], form.activation) * halves[1];
}

} // namespace moe
