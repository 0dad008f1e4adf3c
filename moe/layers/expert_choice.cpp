#include "moe/layers/expert_choice.h"

#include "moe/layers/expert_capacity.h"
#include "moe/libtorch.h"

namespace moe {

torch::Tensor expert_choice(const torch::Tensor& preference, int64_t experts_per_token) {
  const int64_t tokens = preference.size(0);
  const int64_t capacity =
      expert_capacity(tokens, experts_per_token, preference.size(1), /*factor=*/1.0);
  const auto best = std::get<1>(torch::topk(preference, capacity, /*dim=*/0)); // [C, E]
  return torch::zeros_like(preference, torch::kBool).scatter_(/*dim=*/0, best, true);
}

} // namespace moe
