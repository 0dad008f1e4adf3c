#pragma once

#include "moe/kernels/activation.h"
#include "moe/kernels/expert_mlp.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

namespace moe::testing {

// Of float32, by the norm of the error. Long sums of the largest case here reach 1e-6.
inline constexpr double kFloat32Tolerance = 1e-5;

// Of bfloat16, by the norm of the error: it has 8 significant bits, so each rounding is an
// error of up to 4e-3, and a gradient has passed several.
inline constexpr double kBFloat16Tolerance = 1e-2;

struct ExpertSizes {
  int64_t tokens, per_token, experts, model_dim, expert_dim;
  bool same_experts = false; ///< all tokens take experts 0 to per_token - 1
};

/// The inputs of one call; `leaves` are what gradients are taken of.
struct ExpertProblem {
  torch::Tensor input;   // [T, D]
  torch::Tensor experts; // [T, K]
  torch::Tensor factors; // [T, K]
  ExpertWeights weights;
  ExpertForm form;
  torch::Tensor output_gradient; // [T, D]

  std::vector<torch::Tensor> leaves() const {
    std::vector<torch::Tensor> result{input, factors, weights.up, weights.down};
    if (weights.up_bias.defined()) {
      result.insert(result.end(), {weights.up_bias, weights.down_bias});
    }
    return result;
  }

  /// New leaves of this type, on the CPU if no device is given.
  ExpertProblem to(torch::TensorOptions options) const {
    options = options.device(options.device());
    const auto leaf = [&](const torch::Tensor& tensor) {
      return tensor.defined() ? tensor.detach().to(options, false, true).requires_grad_()
                              : tensor;
    };
    return {
        leaf(input),
        experts.to(options.device()),
        leaf(factors),
        {leaf(weights.up), leaf(weights.down), leaf(weights.up_bias), leaf(weights.down_bias)},
        form,
        output_gradient.to(options)};
  }
};

inline ExpertProblem make_problem(
    const ExpertSizes& sizes, const ExpertForm& form = {}, bool bias = false) {
  torch::manual_seed(0);
  const auto up_width = (form.gated ? 2 : 1) * sizes.expert_dim;
  const auto order = sizes.same_experts
                         ? torch::arange(sizes.experts).repeat({sizes.tokens, 1})
                         : torch::rand({sizes.tokens, sizes.experts})
                               .argsort(/*stable=*/true, /*dim=*/1, /*descending=*/false);
  const auto random = [](torch::IntArrayRef shape, double scale = 1.0) {
    return (torch::randn(shape) * scale).requires_grad_();
  };
  return {
      random({sizes.tokens, sizes.model_dim}),
      order.narrow(1, 0, sizes.per_token),
      torch::rand({sizes.tokens, sizes.per_token}).requires_grad_(),
      {random({sizes.experts, up_width, sizes.model_dim}, 1 / std::sqrt(sizes.model_dim)),
       random(
           {sizes.experts, sizes.model_dim, sizes.expert_dim}, 1 / std::sqrt(sizes.expert_dim)),
       bias ? random({sizes.experts, up_width}) : torch::Tensor(),
       bias ? random({sizes.experts, sizes.model_dim}) : torch::Tensor()},
      form,
      torch::randn({sizes.tokens, sizes.model_dim})};
}

/// Every activation, gated or not, and every number of a form.
inline std::vector<ExpertForm> expert_forms() {
  std::vector<ExpertForm> all;
  for (const bool gated : {true, false}) {
    for (const auto activation :
         {Activation::silu,
          Activation::gelu,
          Activation::gelu_tanh,
          Activation::relu,
          Activation::relu_squared}) {
      all.push_back({activation, gated});
    }
    all.push_back({Activation::silu, gated, /*limit=*/0.7});
    all.push_back({Activation::silu, gated, /*limit=*/0.0, /*sigmoid_scale=*/1.702});
    all.push_back({Activation::gelu, gated, /*limit=*/0.0, /*sigmoid_scale=*/1.0, 1.0});
    all.push_back({Activation::silu, gated, /*limit=*/0.7, /*sigmoid_scale=*/1.702, 1.0});
  }
  return all;
}

/// Of bfloat16 without biases. What is rounded across a kink has another gradient: across the
/// limit at once, across zero where the product is rounded before a bias is added.
inline double narrow_tolerance(const ExpertForm& form) {
  return form.limit > 0.0 ? 0.12 : kBFloat16Tolerance;
}

/// The definition: every expert on every token, masked and summed.
inline torch::Tensor every_expert_masked(const ExpertProblem& problem) {
  auto output = torch::zeros_like(problem.input);
  const auto& weights = problem.weights;
  for (int64_t e = 0; e < weights.up.size(0); ++e) {
    const auto bias = [&](const torch::Tensor& all) {
      return all.defined() ? all[e] : torch::Tensor();
    };
    const auto projected = torch::linear(problem.input, weights.up[e], bias(weights.up_bias));
    const auto result = torch::linear(
        moe::activate(projected, problem.form), weights.down[e], bias(weights.down_bias));
    const auto factor = (problem.factors * (problem.experts == e)).sum(1, /*keepdim=*/true);
    output = output + factor * result;
  }
  return output;
}

using ExpertKernel = torch::Tensor (*)(
    const torch::Tensor&, const Dispatch&, const ExpertWeights&, const ExpertForm&);

inline torch::Tensor run_problem(const ExpertProblem& problem, ExpertKernel kernel) {
  const auto rows = moe::dispatch(problem.experts, problem.factors, problem.weights.up.size(0));
  return kernel(problem.input, rows, problem.weights, problem.form);
}

/// The output, then the gradients of the leaves.
inline std::vector<torch::Tensor> output_and_gradients(
    const ExpertProblem& problem, torch::Tensor output) {
  auto results = torch::autograd::grad({output}, problem.leaves(), {problem.output_gradient});
  results.insert(results.begin(), output.detach());
  return results;
}

inline std::vector<torch::Tensor> expected_results(const ExpertProblem& problem) {
  const auto wide = problem.to(torch::kFloat64);
  return output_and_gradients(wide, every_expert_masked(wide));
}

inline void check_close(
    const std::vector<torch::Tensor>& actual,
    const std::vector<torch::Tensor>& expected,
    double tolerance = kFloat32Tolerance) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    REQUIRE(actual[i].defined());
    CHECK_THAT(actual[i], AllClose(expected[i], tolerance));
  }
}

inline void check_same_bits(
    const std::vector<torch::Tensor>& actual, const std::vector<torch::Tensor>& expected) {
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(actual[i], SameBits(expected[i]));
  }
}

} // namespace moe::testing
