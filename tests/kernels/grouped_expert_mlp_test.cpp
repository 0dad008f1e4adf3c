#include <ATen/autocast_mode.h>

#include "moe/kernels/grouped_expert_mlp_internal.h"
#include "moe/layers/sparse_moe_block.h"
#include "tests/support/cuda_device.h"
#include "tests/support/expert_problem.h"
#include "tests/support/host_waits.h"

namespace {

using namespace moe::testing;
using moe::Activation;
using moe::ExpertForm;
using moe::ExpertPath;
using moe::ExpertWeights;
using moe::SparseMoEBlock;
using moe::SparseMoEBlockOptions;

/// No tokens, one token, one expert, all experts, experts without tokens. The widths are
/// multiples of what `at::_grouped_mm` asks for.
ExpertSizes generate_grouped_sizes() {
  return GENERATE(
      ExpertSizes{0, 2, 4, 8, 16},
      ExpertSizes{1, 1, 1, 8, 8},
      ExpertSizes{1, 2, 4, 16, 8},
      ExpertSizes{5, 2, 3, 16, 32},
      ExpertSizes{40, 4, 4, 32, 16},
      ExpertSizes{18, 1, 6, 16, 128},
      ExpertSizes{150, 2, 8, 24, 24, /*same_experts=*/true},
      ExpertSizes{300, 1, 3, 128, 72},
      ExpertSizes{70, 3, 5, 264, 64},
      ExpertSizes{20, 1, 2, 16, 528});
}

std::vector<torch::Tensor> grouped_results(const ExpertProblem& problem) {
  return output_and_gradients(problem, run_problem(problem, moe::grouped::expert_mlp));
}

TEST_CASE(
    "The grouped path equals every expert on every token, masked and summed", "[kernels]") {
  const auto sizes = generate_grouped_sizes();
  const bool bias = GENERATE(false, true);
  CAPTURE(sizes.tokens, sizes.per_token, sizes.experts, sizes.model_dim, sizes.expert_dim);
  CAPTURE(bias);
  const auto problem = make_problem(sizes, {}, bias);
  const auto expected = expected_results(problem);
  check_close(grouped_results(problem), expected);
  const torch::NoGradGuard no_grad;
  CHECK_THAT(
      run_problem(problem, moe::grouped::expert_mlp), AllClose(expected[0], kFloat32Tolerance));
}

TEST_CASE("The grouped path computes every form", "[kernels]") {
  for (const auto& form : expert_forms()) {
    CAPTURE(moe::enum_name(form.activation), form.gated);
    CAPTURE(form.limit, form.sigmoid_scale, form.offset);
    const auto problem = make_problem({37, 2, 4, 24, 72}, form, /*bias=*/true);
    check_close(grouped_results(problem), expected_results(problem));
    const auto narrow = make_problem({37, 2, 4, 24, 72}, form).to(torch::kBFloat16);
    check_close(grouped_results(narrow), expected_results(narrow), narrow_tolerance(form));
  }
}

TEST_CASE("The grouped path computes in bfloat16", "[kernels]") {
  const auto sizes = generate_grouped_sizes();
  CAPTURE(sizes.tokens, sizes.per_token, sizes.experts, sizes.model_dim, sizes.expert_dim);
  auto problem = make_problem(sizes, {}, /*bias=*/true).to(torch::kBFloat16);
  // A router's weights are float32 even then.
  problem.factors = problem.factors.detach().to(torch::kFloat32).requires_grad_();
  const auto results = grouped_results(problem);
  CHECK(results[0].scalar_type() == torch::kBFloat16);
  check_close(results, expected_results(problem), kBFloat16Tolerance);
}

TEST_CASE("The grouped path leaves out what is not in the list", "[kernels]") {
  auto problem = make_problem({60, 3, 5, 16, 24}, {}, /*bias=*/true);
  const auto kept = torch::rand({60, 3}) < GENERATE(0.0, 0.5);
  const auto rows = moe::dispatch(problem.experts, problem.factors, 5, kept);
  auto wide = problem.to(torch::kFloat64);
  const auto factors = wide.factors;
  wide.factors = factors * kept;
  const auto output = every_expert_masked(wide);
  wide.factors = factors;
  check_close(
      output_and_gradients(
          problem,
          moe::grouped::expert_mlp(problem.input, rows, problem.weights, problem.form)),
      output_and_gradients(wide, output));
}

TEST_CASE("The grouped path: experts without rows have gradients of zeros", "[kernels]") {
  const auto problem = make_problem({3, 1, 4, 8, 16, /*same_experts=*/true}, {}, /*bias=*/true);
  const auto results = grouped_results(problem);
  for (size_t i = 3; i < results.size(); ++i) {
    CAPTURE(i);
    const auto others = results[i].narrow(0, 1, 3);
    CHECK(results[i][0].abs().sum().item<float>() > 0.0F);
    CHECK(torch::equal(others, torch::zeros_like(others)));
  }
}

TEST_CASE("The grouped path takes one bias without the other", "[kernels]") {
  const bool up_only = GENERATE(true, false);
  CAPTURE(up_only);
  auto problem = make_problem({40, 2, 5, 16, 8}, {}, /*bias=*/true);
  (up_only ? problem.weights.down_bias : problem.weights.up_bias) = torch::Tensor();
  const auto gradient = [&](const ExpertProblem& of, const torch::Tensor& output) {
    const auto& bias = up_only ? of.weights.up_bias : of.weights.down_bias;
    return torch::autograd::grad({output}, {of.factors, bias}, {of.output_gradient});
  };
  const auto wide = problem.to(torch::kFloat64);
  check_close(
      gradient(problem, run_problem(problem, moe::grouped::expert_mlp)),
      gradient(wide, every_expert_masked(wide)));
}

TEST_CASE(
    "The grouped path: each gradient is the same whether or not others are asked for",
    "[kernels]") {
  const auto problem = make_problem({50, 2, 4, 24, 16}, {}, /*bias=*/true);
  const auto all = grouped_results(problem);
  const auto leaves = problem.leaves();
  for (size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    for (const auto& leaf : leaves) {
      leaf.requires_grad_(leaf.is_same(leaves[i]));
    }
    const auto gradient = torch::autograd::grad(
        {run_problem(problem, moe::grouped::expert_mlp)},
        {leaves[i]},
        {problem.output_gradient});
    CHECK_THAT(gradient[0], SameBits(all[i + 1]));
  }
}

TEST_CASE("The grouped path takes tensors of any strides", "[kernels]") {
  auto problem = make_problem({40, 2, 3, 16, 8}, {}, /*bias=*/true);
  const auto expected = grouped_results(problem);
  const auto spread = [](const torch::Tensor& tensor) {
    const auto twice = torch::stack({tensor.detach(), tensor.detach()}, /*dim=*/-1);
    return twice.select(/*dim=*/-1, /*index=*/0).requires_grad_();
  };
  problem.input = spread(problem.input);
  problem.factors = spread(problem.factors);
  problem.weights.up = spread(problem.weights.up);
  problem.weights.down = spread(problem.weights.down);
  problem.weights.up_bias = spread(problem.weights.up_bias);
  problem.weights.down_bias = spread(problem.weights.down_bias);
  problem.output_gradient = spread(problem.output_gradient);
  REQUIRE_FALSE(problem.weights.down.is_contiguous());
  check_same_bits(grouped_results(problem), expected);
}

TEST_CASE("The grouped path is not changed by autocast", "[kernels]") {
  const auto problem = make_problem({40, 2, 3, 16, 8}, {}, /*bias=*/true);
  const auto expected = grouped_results(problem);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const auto results = grouped_results(problem);
  at::autocast::set_autocast_enabled(at::kCPU, false);
  check_same_bits(results, expected);
}

TEST_CASE("The grouped path has no second derivatives", "[kernels]") {
  const auto problem = make_problem({20, 2, 4, 8, 8});
  const auto output = run_problem(problem, moe::grouped::expert_mlp);
  CHECK_THROWS_WITH(
      torch::autograd::grad(
          {output},
          problem.leaves(),
          {problem.output_gradient},
          /*retain_graph=*/true,
          /*create_graph=*/true),
      ContainsSubstring("no second derivatives"));
}

TEST_CASE("The grouped path supports what at::_grouped_mm takes", "[kernels]") {
  const auto supports = [](const ExpertSizes& sizes, torch::ScalarType type) {
    const auto problem = make_problem(sizes, {}, /*bias=*/true).to(type);
    return moe::grouped::supports(problem.input, problem.weights);
  };
  CHECK(supports({2, 1, 3, 16, 8}, torch::kBFloat16));
  CHECK_FALSE(supports({2, 1, 3, 16, 8}, torch::kFloat32));
  CHECK_FALSE(supports({2, 1, 3, 12, 8}, torch::kBFloat16));
  CHECK_FALSE(supports({2, 1, 3, 16, 12}, torch::kBFloat16));
  CHECK(supports({2, 1, 1023, 8, 8}, torch::kBFloat16));
  CHECK_FALSE(supports({2, 1, 1024, 8, 8}, torch::kBFloat16));

  auto mixed = make_problem({2, 1, 3, 16, 8}, {}, /*bias=*/true).to(torch::kBFloat16);
  mixed.weights.up_bias = mixed.weights.up_bias.to(torch::kFloat32);
  CHECK_FALSE(moe::grouped::supports(mixed.input, mixed.weights));
  auto shifted = make_problem({2, 1, 3, 16, 8}).to(torch::kBFloat16);
  const auto numbers = torch::zeros({3 * 16 * 8 + 1}, torch::kBFloat16);
  shifted.weights.down = numbers.slice(0, 1).view({3, 16, 8});
  CHECK_FALSE(moe::grouped::supports(shifted.input, shifted.weights));
}

TEST_CASE("The grouped path and dispatch_by_sorting read no value on the host", "[kernels]") {
  CHECK_FALSE(host_waits([] { torch::ones({1}).item<float>(); }).empty());
  const auto problem = make_problem({40, 2, 5, 16, 8}, {}, /*bias=*/true);
  const auto compute = [&] {
    const auto rows = moe::dispatch_by_sorting(problem.experts, problem.factors, 5);
    output_and_gradients(
        problem, moe::grouped::expert_mlp(problem.input, rows, problem.weights, problem.form));
  };
  CHECK(host_waits(compute, "aten::_grouped_mm").empty());
  CHECK_FALSE(host_waits(compute).empty()); // on the CPU
}

TEST_CASE("The grouped path on a CUDA device equals the mixture", "[kernels][gpu]") {
  if (!has_cuda_device()) {
    return;
  }
  const auto sizes = generate_grouped_sizes();
  const bool bias = GENERATE(false, true);
  CAPTURE(sizes.tokens, sizes.per_token, sizes.experts, sizes.model_dim, sizes.expert_dim);
  CAPTURE(bias);
  const auto problem = make_problem(sizes, {}, bias)
                           .to(torch::TensorOptions(torch::kBFloat16).device(torch::kCUDA));
  REQUIRE(moe::expert_path(problem.input, problem.weights) == ExpertPath::grouped);
  check_close(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp)),
      expected_results(problem),
      kBFloat16Tolerance);
}

TEST_CASE("The grouped path on a CUDA device computes every form", "[kernels][gpu]") {
  if (!has_cuda_device()) {
    return;
  }
  for (const auto& form : expert_forms()) {
    CAPTURE(moe::enum_name(form.activation), form.gated);
    CAPTURE(form.limit, form.sigmoid_scale, form.offset);
    const auto problem = make_problem({37, 2, 4, 24, 72}, form)
                             .to(torch::TensorOptions(torch::kBFloat16).device(torch::kCUDA));
    check_close(
        output_and_gradients(problem, run_problem(problem, moe::expert_mlp)),
        expected_results(problem),
        narrow_tolerance(form));
  }
}

TEST_CASE("CUDA devices take the reference where grouped does not fit", "[kernels][gpu]") {
  if (!has_cuda_device()) {
    return;
  }
  const bool narrow = GENERATE(true, false);
  const auto type = narrow ? torch::kBFloat16 : torch::kFloat32;
  const auto problem = make_problem({40, 2, 5, 12, 9}, {}, /*bias=*/true)
                           .to(torch::TensorOptions(type).device(torch::kCUDA));
  REQUIRE(moe::expert_path(problem.input, problem.weights) == ExpertPath::reference);
  check_close(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp)),
      expected_results(problem),
      narrow ? 2e-2 : kFloat32Tolerance);
}

TEST_CASE(
    "SparseMoEBlock on a CUDA device does not wait in its forward pass", "[layers][gpu]") {
  if (!has_cuda_device()) {
    return;
  }
  const bool autocast = GENERATE(true, false);
  const auto activation = GENERATE(Activation::silu, Activation::relu_squared);
  CAPTURE(autocast, moe::enum_name(activation));
  torch::manual_seed(0);
  SparseMoEBlock block(SparseMoEBlockOptions(/*model_dim=*/64, /*num_experts=*/8)
                           .expert_dim(32)
                           .expert({.activation = activation})
                           .bias(true));
  block->to(torch::kBFloat16); // so that it loses nothing below
  block->to(torch::kFloat32);
  SparseMoEBlock wide(std::dynamic_pointer_cast<moe::SparseMoEBlockImpl>(block->clone()));
  wide->to(torch::kFloat64);
  block->to(torch::kCUDA, autocast ? torch::kFloat32 : torch::kBFloat16);
  const auto values = torch::randn({300, 64}).to(torch::kBFloat16);
  const auto input = values.to(torch::kCUDA).requires_grad_();
  const auto wide_input = values.to(torch::kFloat64).requires_grad_();
  torch::Tensor output;
  at::autocast::set_autocast_enabled(at::kCUDA, autocast);
  at::autocast::set_autocast_dtype(at::kCUDA, torch::kBFloat16);
  const auto run_block = [&] { output = block(input); };
  const auto waits = host_waits(run_block, "aten::_grouped_mm");
  if (!host_waits(run_block).empty()) {
    WARN("at::_grouped_mm waits: this device is not of compute capability 9 or 10");
  }
  at::autocast::set_autocast_enabled(at::kCUDA, false);
  CHECK(waits.empty());
  const auto gradient = torch::randn({300, 64}).to(torch::kBFloat16);
  output.backward(gradient.to(output.device(), output.scalar_type()));
  const auto wide_output = wide(wide_input);
  wide_output.backward(gradient.to(torch::kFloat64));
  CHECK_THAT(output, AllClose(wide_output, 3e-2));
  CHECK_THAT(input.grad(), AllClose(wide_input.grad(), 3e-2));
  CHECK_THAT(block->down_proj.grad(), AllClose(wide->down_proj.grad(), 3e-2));
}

} // namespace
