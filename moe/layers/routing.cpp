#include "moe/layers/routing.h"

#include "moe/libtorch.h"

namespace moe {

torch::Tensor expert_counts(const Routing& routing, const torch::Tensor& token_mask) {
  const auto experts =
      token_mask.defined() ? routing.experts.index({token_mask}) : routing.experts;
  const auto flat = experts.reshape({-1});
  return torch::zeros({routing.logits.size(1)}, flat.options())
      .scatter_add_(0, flat, torch::ones_like(flat));
}

std::vector<int64_t> counts_on_host(const torch::Tensor& counts) {
  const auto host = counts.to(torch::kCPU).contiguous();
  const int64_t* first = host.const_data_ptr<int64_t>();
  return {first, first + host.numel()};
}

Routing select_tokens(const Routing& routing, const torch::Tensor& positions) {
  return {
      routing.logits.index_select(0, positions),
      routing.scores.index_select(0, positions),
      routing.experts.index_select(0, positions),
      routing.weights.index_select(0, positions)};
}

} // namespace moe
