#include "moe/decoder/next_token_loss.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "moe/kernels/cross_entropy.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

torch::ScalarType product_type(const torch::Tensor& hidden, const torch::Tensor& head) {
  const auto device = hidden.device().type();
  return at::autocast::is_autocast_enabled(device)
             ? at::autocast::get_autocast_dtype(device)
             : c10::promoteTypes(hidden.scalar_type(), head.scalar_type());
}

/// `hidden` [B, S, D], `head` [V, D], `targets` [T], `weights` [T] -> Σ weights · loss.
class WeightedCrossEntropy : public torch::autograd::Function<WeightedCrossEntropy> {
 public:
  static torch::Tensor forward(
      AutogradContext* context,
      const torch::Tensor& hidden,
      const torch::Tensor& head,
      const torch::Tensor& targets,
      const torch::Tensor& weights,
      bool need_gradient) {
    const auto type = product_type(hidden, head); // of autocast, which then is switched off
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto rows = hidden.reshape({-1, head.size(1)}).to(type); // [T, D]
    const auto result = cross_entropy(rows, head.to(type), targets, weights, need_gradient);
    if (need_gradient) {
      context->save_for_backward(
          {result.rows_gradient.to(hidden.scalar_type()).view(hidden.sizes()),
           result.head_gradient.to(head.scalar_type())});
    }
    return (result.losses * weights).sum();
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(), "next_token_loss: there are no second derivatives");
    const auto saved = context->get_saved_variables();
    // A loss is mostly differentiated as it is: that saves a pass over the head's gradient.
    if (outputs[0].is_cpu() && outputs[0].item<double>() == 1.0) {
      return {saved[0], saved[1], {}, {}, {}};
    }
    const auto scale = [&](const torch::Tensor& gradient) {
      return gradient * outputs[0].to(gradient.scalar_type());
    };
    return {scale(saved[0]), scale(saved[1]), {}, {}, {}};
  }
};

void check_shapes(
    const torch::Tensor& hidden, const torch::Tensor& head, const torch::Tensor& targets) {
  TORCH_CHECK(
      hidden.dim() == 3 && head.dim() == 2 && hidden.size(2) == head.size(1),
      "next_token_loss: hidden must be [B, S, D] and head [V, D], got ",
      hidden.sizes(),
      " and ",
      head.sizes());
  TORCH_CHECK(
      targets.scalar_type() == torch::kInt64 && targets.dim() == 2 &&
          targets.size(0) == hidden.size(0) && targets.size(1) == hidden.size(1),
      "next_token_loss: targets must be [B, S] int64 like hidden ",
      hidden.sizes(),
      ", got ",
      targets.sizes(),
      " ",
      targets.scalar_type());
}

} // namespace

torch::Tensor next_token_loss(
    const torch::Tensor& hidden,
    const torch::Tensor& head,
    const torch::Tensor& targets,
    const torch::Tensor& loss_mask,
    double normalizer) {
  check_shapes(hidden, head, targets);
  TORCH_CHECK(
      !loss_mask.defined() || loss_mask.sizes() == targets.sizes(),
      "next_token_loss: loss_mask must be [B, S] like targets ",
      targets.sizes(),
      ", got ",
      loss_mask.sizes());
  const auto type = c10::promoteTypes(hidden.scalar_type(), torch::kFloat32);
  auto weights =
      loss_mask.defined()
          ? loss_mask.reshape({-1}).to(type)
          : torch::ones({targets.numel()}, hidden.options().dtype(type).requires_grad(false));
  weights = normalizer > 0.0 ? weights / normalizer : weights / weights.sum().clamp_min(1.0);
  const bool need_gradient =
      torch::GradMode::is_enabled() && (hidden.requires_grad() || head.requires_grad());
  return WeightedCrossEntropy::apply(
      hidden, head, targets.reshape({-1}), weights, need_gradient);
}

torch::Tensor token_losses(
    const torch::Tensor& hidden, const torch::Tensor& head, const torch::Tensor& targets) {
  check_shapes(hidden, head, targets);
  const torch::NoGradGuard no_grad;
  const auto type = product_type(hidden, head);
  const auto rows = hidden.reshape({-1, hidden.size(2)}).to(type);
  const auto weights = torch::ones({targets.numel()}, rows.options().dtype(torch::kFloat32));
  const auto result = cross_entropy(
      rows, head.to(type), targets.reshape({-1}), weights, /*need_gradient=*/false);
  return result.losses.view(targets.sizes());
}

} // namespace moe
