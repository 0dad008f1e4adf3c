#include "moe/layers/expert_capacity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "moe/libtorch.h"

namespace moe {
namespace {

/// For each row, how many rows of its expert belong to earlier tokens: [T, K].
torch::Tensor places_by_position(const torch::Tensor& experts, int64_t num_experts) {
  const auto taken = torch::zeros({experts.size(0), num_experts}, experts.options())
                         .scatter_(/*dim=*/1, experts, 1);
  return (taken.cumsum(/*dim=*/0) - taken).gather(/*dim=*/1, experts);
}

/// For each row, how many rows of its expert have higher scores; of equals the first tokens'
/// come first: [T, K].
torch::Tensor places_by_score(const torch::Tensor& experts, const torch::Tensor& scores) {
  constexpr double nobody = -std::numeric_limits<double>::infinity();
  const auto of_rows = torch::full_like(scores, nobody)
                           .scatter_(/*dim=*/1, experts, scores.gather(/*dim=*/1, experts));
  const auto order =
      torch::argsort(of_rows, /*stable=*/true, /*dim=*/0, /*descending=*/true); // [T, E]
  const auto ranks = torch::arange(scores.size(0), experts.options()).unsqueeze(1);
  return torch::empty_like(order)
      .scatter_(/*dim=*/0, order, ranks.expand_as(order))
      .gather(/*dim=*/1, experts);
}

} // namespace

int64_t expert_capacity(
    int64_t num_tokens, int64_t experts_per_token, int64_t num_experts, double factor) {
  const double even =
      static_cast<double>(num_tokens * experts_per_token) / static_cast<double>(num_experts);
  // A factor such as 1.1 is not exact, and must not make room for one row more.
  const double rows = std::ceil(factor * even * (1.0 - 1e-12));
  return static_cast<int64_t>(std::min(rows, static_cast<double>(num_tokens)));
}

torch::Tensor keep_within_capacity(
    const torch::Tensor& experts,
    const torch::Tensor& scores,
    int64_t capacity,
    CapacityDrop drop) {
  switch (drop) {
    case CapacityDrop::position:
      return places_by_position(experts, scores.size(1)) < capacity;
    case CapacityDrop::score:
      return places_by_score(experts, scores.detach()) < capacity;
  }
  TORCH_CHECK(false, "TopKRouter: no such drop");
}

} // namespace moe
