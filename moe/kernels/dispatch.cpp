#include "moe/kernels/dispatch.h"

#include <algorithm>

#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The order of the list, by expert and then by token, and its inverse.
struct Order {
  torch::Tensor pair_of_row; ///< [N]: index into the flattened [T, K]
  torch::Tensor row_of_pair; ///< [T, K] int32; -1 for a pair that is left out
  torch::Tensor row_token;   ///< [N] int32
  torch::Tensor offsets;     ///< [E + 1] int32
  torch::Tensor token_rows;  ///< [T, K] int32: row_of_pair, ascending for each token
};

/// The number of pairs of the experts before each expert: [E + 1]. `kept` [T, K] may be null.
torch::Tensor count_pairs(const torch::Tensor& experts, const bool* kept, int64_t num_experts) {
  auto offsets = torch::zeros({num_experts + 1}, torch::kInt32);
  int32_t* const start = offsets.mutable_data_ptr<int32_t>();
  const int64_t* const expert = experts.const_data_ptr<int64_t>();
  for (int64_t pair = 0; pair < experts.numel(); ++pair) {
    TORCH_CHECK(
        expert[pair] >= 0 && expert[pair] < num_experts,
        "dispatch: expert ",
        expert[pair],
        " is not in [0, num_experts = ",
        num_experts,
        ")");
    start[expert[pair] + 1] += kept == nullptr || kept[pair] ? 1 : 0;
  }
  for (int64_t e = 0; e < num_experts; ++e) {
    start[e + 1] += start[e];
  }
  return offsets;
}

/// `experts` [T, K] int64 and `kept` [T, K] bool (or undefined), contiguous, on the CPU.
Order counting_sort(
    const torch::Tensor& experts, const torch::Tensor& kept, int64_t num_experts) {
  const auto num_tokens = experts.size(0);
  const auto per_token = experts.size(1);
  const bool* const keeps = kept.defined() ? kept.const_data_ptr<bool>() : nullptr;
  const auto int32 = experts.options().dtype(torch::kInt32);
  const auto starts = count_pairs(experts, keeps, num_experts);
  const int32_t* const offsets = starts.const_data_ptr<int32_t>();
  const Order order{
      torch::empty({offsets[num_experts]}, int32),
      torch::empty(experts.sizes(), int32),
      torch::empty({offsets[num_experts]}, int32),
      starts,
      torch::empty(experts.sizes(), int32)};
  const int64_t* const expert = experts.const_data_ptr<int64_t>();
  int32_t* const pair_of_row = order.pair_of_row.mutable_data_ptr<int32_t>();
  int32_t* const row_of_pair = order.row_of_pair.mutable_data_ptr<int32_t>();
  int32_t* const row_token = order.row_token.mutable_data_ptr<int32_t>();
  int32_t* const token_rows = order.token_rows.mutable_data_ptr<int32_t>();
  std::vector<int32_t> next_row(offsets, offsets + num_experts);
  for (int64_t token = 0; token < num_tokens; ++token) {
    const auto first = token * per_token;
    for (auto pair = first; pair < first + per_token; ++pair) {
      if (keeps != nullptr && !keeps[pair]) {
        row_of_pair[pair] = token_rows[pair] = -1;
        continue;
      }
      const auto row = next_row[expert[pair]]++;
      pair_of_row[row] = static_cast<int32_t>(pair);
      row_of_pair[pair] = row;
      row_token[row] = static_cast<int32_t>(token);
      token_rows[pair] = row;
    }
    // Rows are numbered by ascending expert, so this orders them by expert.
    std::sort(token_rows + first, token_rows + first + per_token);
  }
  return order;
}

/// The same by LibTorch's operations.
Order stable_argsort(
    const torch::Tensor& experts, const torch::Tensor& kept, int64_t num_experts) {
  // What is left out goes to an expert behind the last one.
  const auto flat =
      (kept.defined() ? experts.masked_fill(~kept, num_experts) : experts).view({-1}); // [T·K]
  const auto ids = torch::arange(num_experts + 1, flat.options());
  auto pair_of_row = torch::argsort(flat, /*stable=*/true, /*dim=*/0, /*descending=*/false);
  const auto offsets =
      torch::searchsorted(flat.index_select(0, pair_of_row), ids, /*out_int32=*/true);
  if (kept.defined()) {
    pair_of_row = pair_of_row.slice(0, 0, offsets[num_experts].item<int64_t>());
  }
  const auto row_numbers = torch::arange(pair_of_row.numel(), offsets.options());
  const auto row_of_pair = torch::full({flat.numel()}, -1, offsets.options())
                               .index_put_({pair_of_row}, row_numbers)
                               .view(experts.sizes());
  return {
      pair_of_row,
      row_of_pair,
      pair_of_row.div(std::max<int64_t>(experts.size(1), 1), "floor").to(torch::kInt32),
      offsets,
      std::get<0>(row_of_pair.sort(/*dim=*/1))};
}

/// Puts the weights into the order of the list. `index_select` alone would do, but its backward
/// pass is a sum where a selection by the inverse order is enough.
class SortWeights : public torch::autograd::Function<SortWeights> {
 public:
  static torch::Tensor forward(
      AutogradContext* context,
      const torch::Tensor& weights,
      const torch::Tensor& pair_of_row,
      const torch::Tensor& row_of_pair) {
    context->save_for_backward({row_of_pair});
    return weights.reshape({-1}).index_select(0, pair_of_row);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const auto row_of_pair = context->get_saved_variables()[0]; // [T, K]
    if (gradients[0].numel() == row_of_pair.numel()) {
      const auto gradient = gradients[0].index_select(0, row_of_pair.view({-1}));
      return {gradient.view(row_of_pair.sizes()), {}, {}};
    }
    // What is left out, with row -1, takes the zero at the end.
    const auto padded = torch::constant_pad_nd(gradients[0], {0, 1}); // [N + 1]
    const auto rows = row_of_pair.remainder(padded.numel());
    return {padded.index_select(0, rows.view({-1})).view(row_of_pair.sizes()), {}, {}};
  }
};

void check_arguments(
    const torch::Tensor& experts, const torch::Tensor& weights, const torch::Tensor& kept) {
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
      !kept.defined() ||
          (kept.sizes() == experts.sizes() && kept.scalar_type() == torch::kBool),
      "dispatch: kept must be ",
      experts.sizes(),
      " bool");
  TORCH_CHECK(
      experts.numel() <= std::numeric_limits<int32_t>::max(),
      "dispatch: ",
      experts.numel(),
      " rows are more than a 32-bit index holds");
}

Dispatch in_order(const torch::Tensor& weights, const Order& order) {
  return {
      order.row_token,
      SortWeights::apply(weights, order.pair_of_row, order.row_of_pair),
      order.offsets,
      order.token_rows};
}

} // namespace

Dispatch dispatch(
    const torch::Tensor& experts,
    const torch::Tensor& weights,
    int64_t num_experts,
    const torch::Tensor& kept) {
  if (!experts.is_cpu()) {
    return dispatch_by_sorting(experts, weights, num_experts, kept);
  }
  check_arguments(experts, weights, kept);
  const auto keeps = kept.defined() ? kept.contiguous() : kept;
  return in_order(weights, counting_sort(experts.contiguous(), keeps, num_experts));
}

Dispatch dispatch_by_sorting(
    const torch::Tensor& experts,
    const torch::Tensor& weights,
    int64_t num_experts,
    const torch::Tensor& kept) {
  check_arguments(experts, weights, kept);
  return in_order(weights, stable_argsort(experts.contiguous(), kept, num_experts));
}

} // namespace moe
