#include "moe/kernels/dispatch.h"

#include <torch/torch.h>

namespace moe {
namespace {

/// Where each (token, slot) pair goes in the list sorted by expert, then by token.
struct SortedPairs {
  torch::Tensor pair_of_row; ///< [N] int64: index into the flattened [T, K]
  torch::Tensor offsets;     ///< [E + 1] int32
};

SortedPairs counting_sort(const torch::Tensor& experts, int64_t num_experts) {
  const auto flat = experts.contiguous().view({-1}); // [T·K]
  const int64_t num_pairs = flat.numel();
  const int64_t* expert = flat.const_data_ptr<int64_t>();
  auto offsets = torch::zeros({num_experts + 1}, torch::kInt32);
  int32_t* start = offsets.mutable_data_ptr<int32_t>();
  for (int64_t i = 0; i < num_pairs; ++i) {
    TORCH_CHECK(
        expert[i] >= 0 && expert[i] < num_experts,
        "dispatch: expert ",
        expert[i],
        " is not in [0, num_experts = ",
        num_experts,
        ")");
    ++start[expert[i] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) {
    start[e + 1] += start[e];
  }
  std::vector<int32_t> next(start, start + num_experts);
  auto pair_of_row = torch::empty({num_pairs}, torch::kInt64);
  int64_t* pair = pair_of_row.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < num_pairs; ++i) {
    pair[next[expert[i]]++] = i;
  }
  return {pair_of_row, offsets};
}

/// The same on any device, without waiting for it.
SortedPairs stable_argsort(const torch::Tensor& experts, int64_t num_experts) {
  const auto flat = experts.reshape({-1}); // [T·K]
  const auto pair_of_row =
      torch::argsort(flat, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto ids = torch::arange(num_experts + 1, flat.options());
  const auto offsets = torch::searchsorted(flat.index_select(0, pair_of_row), ids);
  return {pair_of_row, offsets.to(torch::kInt32)};
}

} // namespace

Dispatch dispatch(
    const torch::Tensor& experts, const torch::Tensor& weights, int64_t num_experts) {
  TORCH_CHECK(
      experts.dim() == 2 && experts.scalar_type() == torch::kInt64,
      "dispatch: experts must be [T, K] int64, got ",
      experts.sizes(),
      " ",
      experts.scalar_type());
  TORCH_CHECK(
      weights.sizes() == experts.sizes(),
      "dispatch: weights ",
      weights.sizes(),
      " do not match experts ",
      experts.sizes());
  TORCH_CHECK(
      experts.numel() <= std::numeric_limits<int32_t>::max(),
      "dispatch: ",
      experts.numel(),
      " rows are more than a 32-bit index holds");
  const auto sorted = experts.is_cpu() ? counting_sort(experts, num_experts)
                                       : stable_argsort(experts, num_experts);
  const auto num_rows = sorted.pair_of_row.numel();
  const auto int32 = sorted.offsets.options();
  auto row_of_pair = torch::empty({num_rows}, int32);
  row_of_pair.index_put_({sorted.pair_of_row}, torch::arange(num_rows, int32));
  // Rows are numbered by ascending expert, so sorting a token's rows orders them by expert.
  const auto token_rows = std::get<0>(row_of_pair.view(experts.sizes()).sort(/*dim=*/1));
  const auto row_token =
      sorted.pair_of_row.div(std::max<int64_t>(experts.size(1), 1), "floor").to(torch::kInt32);
  return {
      row_token,
      weights.reshape({-1}).index_select(0, sorted.pair_of_row),
      sorted.offsets,
      token_rows};
}

} // namespace moe
