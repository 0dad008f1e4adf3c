#pragma once

#include <torch/types.h>

namespace moe {

/// Adds up the rows of each token, without atomic additions: `results` [N, D] and `token_rows`
/// [T, K] as in `Dispatch` -> [T, D].
torch::Tensor combine_rows(const torch::Tensor& results, const torch::Tensor& token_rows);

} // namespace moe
