#pragma once

#include <functional>
#include <vector>

#include "moe/libtorch.h"

namespace moe::testing {

/// Checks the gradients of a scalar function by central differences in float64, in up to
/// `max_elements` elements of each input (spread evenly). Returns the largest error found,
/// relative to the largest gradient of that input.
inline double gradient_error(
    const std::function<torch::Tensor()>& function,
    const std::vector<torch::Tensor>& inputs,
    int64_t max_elements = 24,
    double step = 1e-5) {
  for (const auto& input : inputs) {
    input.mutable_grad() = torch::Tensor();
  }
  function().backward();
  const torch::NoGradGuard no_grad;
  double worst = 0.0;
  for (const auto& input : inputs) {
    TORCH_CHECK(
        input.scalar_type() == torch::kFloat64, "gradient_error: inputs must be float64");
    TORCH_CHECK(input.grad().defined(), "gradient_error: an input has no gradient");
    const auto gradient = input.grad().contiguous().view({-1});
    auto values = input.view({-1});
    const double scale = std::max(gradient.abs().max().item<double>(), 1e-8);
    const int64_t stride = std::max<int64_t>(1, values.numel() / max_elements);
    for (int64_t i = 0; i < values.numel(); i += stride) {
      const double value = values[i].item<double>();
      values[i] = value + step;
      const double above = function().item<double>();
      values[i] = value - step;
      const double below = function().item<double>();
      values[i] = value;
      const double expected = (above - below) / (2.0 * step);
      worst = std::max(worst, std::abs(gradient[i].item<double>() - expected) / scale);
    }
  }
  return worst;
}

} // namespace moe::testing
