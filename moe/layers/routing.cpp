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

} // namespace moe
