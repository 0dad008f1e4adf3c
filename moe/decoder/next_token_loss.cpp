#include "moe/decoder/next_token_loss.h"

#include <ATen/autocast_mode.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>

#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// So many rows of logits that they stay in the processor's cache.
int64_t rows_at_a_time(int64_t vocab_size) {
  constexpr int64_t kLogits = 1 << 20;
  return std::max<int64_t>(64, kLogits / vocab_size);
}

torch::ScalarType product_type(const torch::Tensor& hidden, const torch::Tensor& head) {
  const auto device = hidden.device().type();
  return at::autocast::is_autocast_enabled(device)
             ? at::autocast::get_autocast_dtype(device)
             : c10::promoteTypes(hidden.scalar_type(), head.scalar_type());
}

/// Log-probabilities [rows, V] of some rows, in float32 or wider.
torch::Tensor log_probabilities(const torch::Tensor& rows, const torch::Tensor& head_t) {
  const auto logits = torch::mm(rows, head_t);
  return torch::log_softmax(
      logits, /*dim=*/1, c10::promoteTypes(logits.scalar_type(), torch::kFloat32));
}

/// The gradient of `weight · loss` for the logits, in place of their log-probabilities.
torch::Tensor logit_gradient(
    torch::Tensor log_probability, const torch::Tensor& target, const torch::Tensor& weight) {
  auto gradient = log_probability.exp_();
  gradient.scatter_add_(
      /*dim=*/1, target, torch::full({target.size(0), 1}, -1.0, gradient.options()));
  return gradient.mul_(weight);
}

/// `hidden` [T, D], `head` [V, D], `targets` [T, 1], `weights` [T, 1] -> Σ weights · loss.
class ChunkedCrossEntropy : public torch::autograd::Function<ChunkedCrossEntropy> {
 public:
  static torch::Tensor forward(
      AutogradContext* context,
      const torch::Tensor& hidden,
      const torch::Tensor& head,
      const torch::Tensor& targets,
      const torch::Tensor& weights,
      bool need_gradient) {
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto type = product_type(hidden, head);
    const auto rows = hidden.to(type);
    const auto matrix = head.to(type);
    const auto matrix_t = matrix.t();
    auto loss = torch::zeros({}, weights.options());
    torch::Tensor hidden_gradient;
    torch::Tensor head_gradient;
    if (need_gradient) {
      hidden_gradient = torch::empty_like(rows);
      head_gradient = torch::zeros_like(matrix, torch::MemoryFormat::Contiguous);
    }
    const int64_t step = rows_at_a_time(head.size(0));
    for (int64_t begin = 0; begin < rows.size(0); begin += step) {
      const int64_t end = std::min(begin + step, rows.size(0));
      const auto chunk = rows.slice(0, begin, end);
      const auto target = targets.slice(0, begin, end);
      const auto weight = weights.slice(0, begin, end);
      const auto log_probability = log_probabilities(chunk, matrix_t);
      loss -= (log_probability.gather(1, target) * weight).sum();
      if (need_gradient) {
        const auto gradient = logit_gradient(log_probability, target, weight).to(type);
        auto rows_gradient = hidden_gradient.slice(0, begin, end);
        torch::mm_out(rows_gradient, gradient, matrix);
        head_gradient.addmm_(gradient.t(), chunk);
      }
    }
    if (need_gradient) {
      context->save_for_backward(
          {hidden_gradient.to(hidden.scalar_type()), head_gradient.to(head.scalar_type())});
    }
    return loss;
  }

  static variable_list backward(AutogradContext* context, const variable_list& outputs) {
    const auto saved = context->get_saved_variables();
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
  const auto type = c10::promoteTypes(hidden.scalar_type(), torch::kFloat32);
  auto weights = loss_mask.defined() ? loss_mask.reshape({-1, 1}).to(type)
                                     : torch::ones(
                                           {targets.numel(), 1},
                                           hidden.options().dtype(type).requires_grad(false));
  weights = normalizer > 0.0 ? weights / normalizer : weights / weights.sum().clamp_min(1.0);
  const bool need_gradient =
      torch::GradMode::is_enabled() && (hidden.requires_grad() || head.requires_grad());
  return ChunkedCrossEntropy::apply(
      hidden.reshape({-1, hidden.size(2)}),
      head,
      targets.reshape({-1, 1}),
      weights,
      need_gradient);
}

torch::Tensor token_losses(
    const torch::Tensor& hidden, const torch::Tensor& head, const torch::Tensor& targets) {
  check_shapes(hidden, head, targets);
  const torch::NoGradGuard no_grad;
  const auto type = product_type(hidden, head);
  const auto rows = hidden.reshape({-1, hidden.size(2)}).to(type);
  const auto head_t = head.to(type).t();
  const auto target = targets.reshape({-1, 1});
  std::vector<torch::Tensor> losses;
  const int64_t step = rows_at_a_time(head.size(0));
  for (int64_t begin = 0; begin < rows.size(0); begin += step) {
    const int64_t end = std::min(begin + step, rows.size(0));
    const auto log_probability = log_probabilities(rows.slice(0, begin, end), head_t);
    losses.push_back(-log_probability.gather(1, target.slice(0, begin, end)));
  }
  return torch::cat(losses).view(targets.sizes());
}

} // namespace moe
