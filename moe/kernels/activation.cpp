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

/// The gradient of x from that of `apply`.
torch::Tensor apply_backward(
    const torch::Tensor& gradient, const torch::Tensor& x, const ExpertForm& form) {
  switch (form.activation) {
    case Activation::silu: // x · sigmoid(s · x) = silu(s · x) / s
      return torch::silu_backward(
          gradient, form.sigmoid_scale == 1.0 ? x : x * form.sigmoid_scale);
    case Activation::gelu:
      return torch::gelu_backward(gradient, x);
    case Activation::gelu_tanh:
      return torch::gelu_backward(gradient, x, "tanh");
    case Activation::relu:
      return torch::threshold_backward(gradient, x, /*threshold=*/0);
    case Activation::relu_squared:
      return gradient * torch::relu(x) * 2.0;
  }
  TORCH_CHECK(false, "activate: unknown activation ", static_cast<int>(form.activation));
}

torch::Tensor limited_above(const torch::Tensor& x, const ExpertForm& form) {
  return form.limit > 0.0 ? x.clamp_max(form.limit) : x;
}

/// The factor of the activation, from its half of the projection.
torch::Tensor factor_of(const torch::Tensor& half, const ExpertForm& form) {
  const auto limited = form.limit > 0.0 ? half.clamp(-form.limit, form.limit) : half;
  return form.offset != 0.0 ? limited + form.offset : limited;
}

} // namespace

torch::Tensor activate(const torch::Tensor& projected, const ExpertForm& form) {
  if (!form.gated) {
    return apply(limited_above(projected, form), form);
  }
  const auto halves = projected.chunk(2, /*dim=*/-1);
  return apply(limited_above(halves[0], form), form) * factor_of(halves[1], form);
}

torch::Tensor activate_backward(
    const torch::Tensor& gradient, const torch::Tensor& projected, const ExpertForm& form) {
  const auto gradient_of = [&](const torch::Tensor& x, const torch::Tensor& of_result) {
    const auto of_limited = apply_backward(of_result, limited_above(x, form), form);
    return form.limit > 0.0 ? of_limited.masked_fill(x > form.limit, 0.0) : of_limited;
  };
  if (!form.gated) {
    return gradient_of(projected, gradient);
  }
  const auto halves = projected.chunk(2, /*dim=*/-1);
  const auto gate_gradient = gradient_of(halves[0], gradient * factor_of(halves[1], form));
  auto factor_gradient = gradient * apply(limited_above(halves[0], form), form);
  if (form.limit > 0.0) {
    factor_gradient.masked_fill_(halves[1].abs() > form.limit, 0.0);
  }
  return torch::cat({gate_gradient, factor_gradient}, /*dim=*/-1);
}

} // namespace moe
