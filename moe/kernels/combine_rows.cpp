#include "moe/kernels/combine_rows_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

/// `results` with a row of zeros at the end, where row -1 is.
torch::Tensor select_rows(const torch::Tensor& results, const torch::Tensor& rows) {
  if (results.size(0) == rows.numel()) {
    return results.index_select(0, rows); // No token has fewer than K rows.
  }
  const auto padded = torch::cat({results, results.new_zeros({1, results.size(1)})});
  return padded.index_select(0, rows.remainder(padded.size(0)));
}

} // namespace

torch::Tensor combine_rows(const torch::Tensor& results, const torch::Tensor& token_rows) {
  return select_rows(results, token_rows.reshape({-1}))
      .view({token_rows.size(0), token_rows.size(1), results.size(1)})
      .sum(1);
}

} // namespace moe
