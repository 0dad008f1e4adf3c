#include <torch/nn.h>

#include <iostream>

#include "moe/moe.h"

// A sparse block in a user's own network, with that network's other modules.
int main() {
  torch::manual_seed(0);
  torch::nn::Sequential network(
      torch::nn::Linear(4, 16),
      moe::SparseMoEBlock(moe::SparseMoEBlockOptions(/*model_dim=*/16, /*num_experts=*/4)
                              .experts_per_token(2)
                              .expert_dim(8)));
  const auto output = network->forward(torch::randn({3, 4}));
  output.sum().backward();
  moe::save_safetensors(*network, "network.safetensors");
  std::cout << "output " << output.sizes() << "\n";
  return output.sizes() == torch::IntArrayRef{3, 16} ? 0 : 1;
}
