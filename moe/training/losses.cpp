#include "moe/training/losses.h"

#include <algorithm>

#include "moe/libtorch.h"

namespace moe {
namespace {

template <class Loss>
torch::Tensor mean_over_layers(const std::vector<Routing>& layers, const Loss& loss) {
  torch::Tensor sum;
  for (const auto& routing : layers) {
    sum = sum.defined() ? sum + loss(routing) : loss(routing);
  }
  return sum.defined() ? sum / static_cast<double>(layers.size()) : sum;
}

} // namespace

torch::Tensor load_balancing_loss(const Routing& routing) {
  const auto rows = std::max<int64_t>(1, routing.experts.numel());
  const auto share = expert_counts(routing).to(routing.scores.scalar_type()) /
                     static_cast<double>(rows);   // [E]
  const auto mean_score = routing.scores.mean(0); // [E]
  return (share * mean_score).sum() * static_cast<double>(routing.logits.size(1));
}

torch::Tensor load_balancing_loss(const std::vector<Routing>& layers) {
  return mean_over_layers(
      layers, [](const Routing& routing) { return load_balancing_loss(routing); });
}

torch::Tensor router_z_loss(const Routing& routing) {
  return routing.logits.logsumexp(/*dim=*/1).square().mean();
}

torch::Tensor router_z_loss(const std::vector<Routing>& layers) {
  return mean_over_layers(
      layers, [](const Routing& routing) { return router_z_loss(routing); });
}

} // namespace moe
