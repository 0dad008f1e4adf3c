#include "moe/evaluation/expert_comparison.h"

#include "moe/libtorch.h"

namespace moe {

double expert_similarity(SparseMoEBlock block, const torch::Tensor& inputs) {
  const torch::NoGradGuard no_grad;
  const int64_t experts = block->options.num_experts();
  if (experts == 1) {
    return 1.0;
  }
  // The sum of unit vectors holds all pairs: |Σ u|² = E + Σ of the cosines of pairs in both
  // orders.
  torch::Tensor sum; // [T, D] float64
  for (int64_t i = 0; i < experts; ++i) {
    const auto output = block->expert(i)->forward(inputs).to(torch::kFloat64); // [T, D]
    const auto unit = output / output.norm(2, /*dim=*/1, /*keepdim=*/true).clamp_min(1e-12);
    sum = i == 0 ? unit : sum + unit;
  }
  const auto count = static_cast<double>(experts);
  return (sum.square().sum(1).mean().item<double>() - count) / (count * (count - 1.0));
}

double expert_churn(const torch::Tensor& before, const torch::Tensor& now) {
  TORCH_CHECK(
      before.sizes() == now.sizes() && now.dim() == 2 && now.numel() > 0,
      "expert_churn: the choices must be of the same tokens, got ",
      before.sizes(),
      " and ",
      now.sizes());
  const auto is_choice = now >= 0; // [T, K]
  const auto stayed = (now.unsqueeze(2) == before.unsqueeze(1)).any(2).logical_and(is_choice);
  const auto choices = static_cast<double>(is_choice.sum().item<int64_t>());
  return choices > 0.0 ? 1.0 - static_cast<double>(stayed.sum().item<int64_t>()) / choices
                       : 0.0;
}

} // namespace moe
