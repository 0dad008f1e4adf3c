#include "moe/layers/router_weighting.h"

#include <algorithm>

#include "moe/libtorch.h"

namespace moe {
namespace {

torch::Tensor normalized(
    const torch::Tensor& weights, bool may_be_empty, const TopKRouterOptions& options) {
  // A token without experts has weights of 0, whatever they are divided by.
  constexpr double tiny = 1e-20;
  const double power = options.form().normalize_power;
  auto sum = power == 1.0 ? weights.sum(/*dim=*/-1, /*keepdim=*/true)
                          : torch::norm(weights, power, /*dim=*/{-1}, /*keepdim=*/true);
  const double minimum = std::max(options.form().normalize_minimum, may_be_empty ? tiny : 0.0);
  if (minimum > 0.0) {
    sum = sum.clamp_min(minimum);
  }
  return weights / sum;
}

} // namespace

torch::Tensor weigh_experts(
    const torch::Tensor& logits,
    const torch::Tensor& scores,
    const Selection& selection,
    const TopKRouterOptions& options) {
  if (options.form().weighting == RouterWeighting::softmax) {
    return torch::softmax(logits.gather(/*dim=*/-1, selection.experts), /*dim=*/-1);
  }
  auto weights = scores.gather(/*dim=*/-1, selection.experts); // [T, K]
  if (selection.chosen.defined()) {
    weights = weights.masked_fill(~selection.chosen, 0.0);
  }
  return options.form().normalize_weights
             ? normalized(weights, selection.chosen.defined(), options)
             : weights;
}

} // namespace moe
