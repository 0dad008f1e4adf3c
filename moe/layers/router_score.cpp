#include "moe/layers/router_score.h"

#include <limits>

#include "moe/libtorch.h"

namespace moe {

torch::Tensor router_scores(const torch::Tensor& logits, RouterScore score) {
  switch (score) {
    case RouterScore::softmax:
      return torch::softmax(logits, /*dim=*/-1);
    case RouterScore::sigmoid:
      return torch::sigmoid(logits);
    case RouterScore::sqrt_softplus:
      // The square root has no slope at 0.
      return torch::softplus(logits).clamp_min(std::numeric_limits<float>::min()).sqrt();
    case RouterScore::identity:
      return logits;
  }
  TORCH_CHECK(false, "TopKRouter: no such score");
}

} // namespace moe
