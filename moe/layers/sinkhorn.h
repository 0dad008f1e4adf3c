#pragma once

#include <torch/types.h>

namespace moe {

/// `logits` [T, E] plus one number per token and one per expert, such that of their
/// exponentials each token's sum to 1 and each expert's to T / E: the balanced assignment
/// nearest to the softmax. Alternates between both sums, the tokens' last, until those of the
/// experts are right to one part in 1000 or `iterations` are over, for which the host waits
/// once per round on another device than the CPU.
torch::Tensor sinkhorn(const torch::Tensor& logits, int64_t iterations = 50);

} // namespace moe
