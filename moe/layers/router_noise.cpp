#include "moe/layers/router_noise.h"

#include "moe/libtorch.h"

namespace moe {

torch::Tensor with_jitter(const torch::Tensor& input, double jitter) {
  return input * torch::empty_like(input).uniform_(1.0 - jitter, 1.0 + jitter);
}

torch::Tensor with_learned_noise(
    const torch::Tensor& logits,
    const torch::Tensor& input,
    const torch::Tensor& noise_weight) {
  const auto width = torch::softplus(torch::linear(input, noise_weight)); // [T, E]
  return logits + torch::randn_like(logits) * width;
}

} // namespace moe
