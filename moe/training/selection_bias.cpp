#include "moe/training/selection_bias.h"

#include "moe/libtorch.h"

namespace moe {

void update_selection_bias(
    const torch::Tensor& bias,
    const torch::Tensor& counts,
    const SelectionBiasRule& rule,
    const std::vector<RowRange>& rows) {
  const torch::NoGradGuard no_grad;
  // In whole numbers: an expert with exactly the mean load must not move.
  const auto missing = counts.sum() - counts * counts.size(0); // [E], times E
  auto change = rule.proportional ? missing.to(bias.scalar_type()) / counts.sum().clamp_min(1)
                                  : missing.sign().to(bias.scalar_type());
  if (rule.centered) {
    change = change - change.mean();
  }
  for (const auto& [begin, end] : rows) {
    bias.slice(/*dim=*/0, begin, end).add_(change.slice(/*dim=*/0, begin, end), rule.rate);
  }
}

} // namespace moe
