#include "moe/layers/routing.h"

#include "moe/libtorch.h"

namespace moe {
namespace {

/// Of the listed pairs those that `rows` [T, K] marks, by expert: [E].
torch::Tensor count_pairs_of(
    const Routing& routing, const torch::Tensor& rows, const torch::Tensor& token_mask) {
  const auto flat = [&](const torch::Tensor& tensor) {
    return (token_mask.defined() ? tensor.index({token_mask}) : tensor).reshape({-1});
  };
  const auto experts = flat(routing.experts);
  const auto ones = rows.defined() ? flat(rows).to(torch::kInt64) : torch::ones_like(experts);
  return torch::zeros({routing.logits.size(1)}, experts.options())
      .scatter_add_(0, experts, ones);
}

} // namespace

torch::Tensor expert_counts(const Routing& routing, const torch::Tensor& token_mask) {
  return count_pairs_of(routing, routing.kept, token_mask);
}

torch::Tensor chosen_counts(const Routing& routing, const torch::Tensor& token_mask) {
  return count_pairs_of(routing, routing.chosen, token_mask);
}

torch::Tensor dropped_rows(const Routing& routing, const torch::Tensor& token_mask) {
  if (!routing.kept.defined()) {
    return torch::zeros({}, routing.experts.options());
  }
  const auto dropped =
      routing.chosen.defined() ? routing.chosen & ~routing.kept : ~routing.kept;
  return (token_mask.defined() ? dropped.index({token_mask}) : dropped).sum();
}

std::vector<int64_t> counts_on_host(const torch::Tensor& counts) {
  const auto host = counts.to(torch::kCPU).contiguous();
  const int64_t* first = host.const_data_ptr<int64_t>();
  return {first, first + host.numel()};
}

Routing select_tokens(const Routing& routing, const torch::Tensor& positions) {
  const auto rows = [&](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.index_select(0, positions) : tensor;
  };
  return {
      rows(routing.logits),
      rows(routing.scores),
      rows(routing.experts),
      rows(routing.weights),
      rows(routing.kept),
      rows(routing.chosen)};
}

} // namespace moe
