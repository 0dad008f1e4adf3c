#include "moe/kernels/activation.h"

#include "moe/libtorch.h"

namespace moe {
namespace {

torch::Tensor apply(const torch::Tensor& x, const ExpertForm& form) {
  switch (form.activation) {
    case Activation::silu:
      return form.sigmoid_scale == 1.0 ? torch::silu(x)
                                       : x * torch::sigmoid(x * form.sigmoid_scale);
    case Activation::gelu:
      return torch::gelu(x);
    case Activation::gelu_tanh:
      return torch::gelu(x, "tanh");
    case Activation::relu:
      return torch::relu(x);
    case Activation::relu_squared:
      return torch::relu(x).square();
  }
  TORCH_CHECK(false, "activate: unknown activation ", static_cast<int>(form.activation));
}

} // namespace

torch::Tensor activate(const torch::Tensor& projected, const ExpertForm& form) {
  const auto limited = [&](const torch::Tensor& x) {
    return form.limit > 0.0 ? x.clamp_max(form.limit) : x;
  };
  if (!form.gated) {
    return apply(limited(projected), form);
  }
  const auto halves = projected.chunk(2, /*dim=*/-1);
  auto factor = halves[1];
  if (form.limit > 0.0) {
    factor = factor.clamp(-form.limit, form.limit);
  }
  if (form.offset != 0.0) {
    factor = factor + form.offset;
  }
  return apply(limited(halves[0]), form) * factor;
}

} // namespace moe
