#include "readme_example.h"

#include <cmath>
#include <iostream>

// The README's classifier in a user's own program.
int main() {
  torch::manual_seed(0);
  ClassifierImpl classifier;
  const auto loss = classifier.loss(torch::randn({3, 64}), torch::tensor({1, 0, 9}));
  loss.backward();
  moe::save_safetensors(classifier, "classifier.safetensors");
  std::cout << "loss " << loss.item<double>() << "\n";
  const bool learns = classifier.block->router->weight.grad().abs().sum().item<double>() > 0;
  return learns && std::isfinite(loss.item<double>()) ? 0 : 1;
}
