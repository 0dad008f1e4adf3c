#include "moe/kernels/activation.h"
#include "moe/kernels/combine_rows_internal.h"
#include "moe/kernels/expert_mlp.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

/// One tensor per expert. Not `stacked[e]`: the backward pass of each such selection fills a
/// tensor as large as all experts.
std::vector<torch::Tensor> by_expert(const torch::Tensor& stacked, int64_t num_experts) {
  return stacked.defined() ? stacked.unbind(0) : std::vector<torch::Tensor>(num_experts);
}

/// The number of rows of each expert, on the host.
std::vector<int64_t> row_counts(const torch::Tensor& offsets) {
  const auto counts = offsets.diff().to(torch::kCPU, torch::kInt64).contiguous(); // [E]
  const int64_t* first = counts.const_data_ptr<int64_t>();
  return {first, first + counts.numel()};
}

} // namespace

torch::Tensor expert_mlp_reference(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form) {
  const auto num_experts = weights.up.size(0);
  const auto up = by_expert(weights.up, num_experts);
  const auto down = by_expert(weights.down, num_experts);
  const auto up_bias = by_expert(weights.up_bias, num_experts);
  const auto down_bias = by_expert(weights.down_bias, num_experts);
  const auto inputs = input
                          .index_select(0, rows.row_token) // [N, D]
                          .split_with_sizes(row_counts(rows.offsets));
  std::vector<torch::Tensor> results;
  for (int64_t e = 0; e < num_experts; ++e) {
    const auto hidden = activate(torch::linear(inputs[e], up[e], up_bias[e]), form); // [n, F]
    results.push_back(torch::linear(hidden, down[e], down_bias[e]));                 // [n, D]
  }
  const auto weighted = torch::cat(results) * rows.row_weight.unsqueeze(1); // [N, D]
  return combine_rows(weighted, rows.token_rows).to(input.scalar_type());
}

} // namespace moe
