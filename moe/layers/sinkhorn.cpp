#include "moe/layers/sinkhorn.h"

#include <cmath>

#include "moe/libtorch.h"

namespace moe {

torch::Tensor sinkhorn(const torch::Tensor& logits, int64_t iterations) {
  constexpr double tolerance = 1e-3;
  if (logits.size(0) == 0) {
    return logits;
  }
  const double share =
      std::log(static_cast<double>(logits.size(0)) / static_cast<double>(logits.size(1)));
  auto balanced = torch::log_softmax(logits, /*dim=*/1);
  for (int64_t i = 0; i < iterations; ++i) {
    const auto excess = balanced.logsumexp(/*dim=*/0, /*keepdim=*/true) - share; // [1, E]
    if (excess.abs().max().item<double>() < tolerance) {
      break;
    }
    balanced = torch::log_softmax(balanced - excess, /*dim=*/1);
  }
  return balanced;
}

} // namespace moe
