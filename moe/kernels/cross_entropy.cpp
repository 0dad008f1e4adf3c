#include "moe/kernels/cross_entropy.h"

#include <algorithm>

#include "moe/kernels/cpu_cross_entropy.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

/// So many rows of logits that they stay in the processor's cache.
int64_t rows_at_a_time(int64_t vocab_size) {
  constexpr int64_t kLogits = 1 << 20;
  return std::max<int64_t>(64, kLogits / vocab_size);
}

/// The gradient of `weight · loss` for the logits, in place of their log-probabilities.
torch::Tensor logit_gradient(
    torch::Tensor log_probability, const torch::Tensor& target, const torch::Tensor& weight) {
  auto gradient = log_probability.exp_();
  gradient.scatter_add_(
      /*dim=*/1, target, torch::full({target.size(0), 1}, -1.0, gradient.options()));
  return gradient.mul_(weight);
}

/// Whether the tiles of the CPU take them.
bool fits_tiles(const torch::Tensor& rows, const torch::Tensor& head) {
  const auto type = rows.scalar_type();
  return (type == torch::kFloat32 || type == torch::kBFloat16) && cpu::is_plain(rows, type) &&
         cpu::is_plain(head, type);
}

} // namespace

CrossEntropy cross_entropy(
    const torch::Tensor& rows,
    const torch::Tensor& head,
    const torch::Tensor& targets,
    const torch::Tensor& weights,
    bool need_gradient) {
  TORCH_CHECK(
      targets.numel() == rows.size(0) && weights.numel() == rows.size(0),
      "cross_entropy: ",
      targets.numel(),
      " targets and ",
      weights.numel(),
      " weights for ",
      rows.size(0),
      " rows");
  const torch::NoGradGuard no_grad;
  if (fits_tiles(rows, head) && cpu::is_plain_float(weights)) {
    return cpu::cross_entropy(
        rows.contiguous(),
        head.contiguous(),
        targets.contiguous(),
        weights.contiguous(),
        need_gradient);
  }
  return cross_entropy_reference(rows, head, targets, weights, need_gradient);
}

CrossEntropy cross_entropy_reference(
    const torch::Tensor& rows,
    const torch::Tensor& head,
    const torch::Tensor& targets,
    const torch::Tensor& weights,
    bool need_gradient) {
  const torch::NoGradGuard no_grad;
  CrossEntropy result;
  if (need_gradient) {
    result.rows_gradient = torch::empty_like(rows, torch::MemoryFormat::Contiguous);
    result.head_gradient = torch::zeros_like(head, torch::MemoryFormat::Contiguous);
  }
  const auto head_t = head.t();
  std::vector<torch::Tensor> losses;
  const int64_t step = rows_at_a_time(head.size(0));
  for (int64_t begin = 0; begin < rows.size(0); begin += step) {
    const int64_t end = std::min(begin + step, rows.size(0));
    const auto chunk = rows.slice(0, begin, end);
    const auto target = targets.slice(0, begin, end).unsqueeze(1);
    const auto logits = torch::mm(chunk, head_t);
    const auto log_probability = torch::log_softmax(
        logits, /*dim=*/1, c10::promoteTypes(logits.scalar_type(), torch::kFloat32));
    losses.push_back(log_probability.gather(1, target).squeeze(1).neg());
    if (need_gradient) {
      const auto weight = weights.slice(0, begin, end).unsqueeze(1);
      const auto gradient =
          logit_gradient(log_probability, target, weight).to(rows.scalar_type());
      auto rows_gradient = result.rows_gradient.slice(0, begin, end);
      torch::mm_out(rows_gradient, gradient, head);
      result.head_gradient.addmm_(gradient.t(), chunk);
    }
  }
  result.losses = losses.empty() ? torch::empty({0}, weights.options()) : torch::cat(losses);
  return result;
}

} // namespace moe
