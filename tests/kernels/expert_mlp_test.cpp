#include "moe/kernels/expert_mlp.h"

#include "moe/training/autocast_guard.h"
#include "tests/support/expert_problem.h"
#include "tests/support/gradient_check.h"

namespace {

using namespace moe::testing;
using moe::Activation;
using moe::AutocastGuard;
using moe::Dispatch;
using moe::ExpertForm;
using moe::ExpertPath;
using moe::ExpertWeights;

bool takes_cpu_path(const ExpertProblem& problem) {
  return moe::expert_path(problem.input, problem.weights) == ExpertPath::cpu;
}

/// No tokens, one token, one expert, all experts, experts without tokens, more rows than a
/// tile, more depth than a slab, more features than a panel, so many rows that an expert's
/// weights are transposed at once, and sizes that are multiples of nothing.
ExpertSizes generate_sizes() {
  return GENERATE(
      ExpertSizes{0, 2, 4, 8, 16},
      ExpertSizes{1, 1, 1, 1, 1},
      ExpertSizes{1, 2, 4, 7, 5},
      ExpertSizes{5, 2, 3, 16, 32},
      ExpertSizes{40, 4, 4, 33, 17},
      ExpertSizes{18, 1, 6, 12, 129},
      ExpertSizes{150, 2, 8, 24, 20, /*same_experts=*/true},
      ExpertSizes{300, 1, 3, 131, 70},
      ExpertSizes{70, 3, 5, 260, 65},
      ExpertSizes{20, 1, 2, 16, 530},
      ExpertSizes{1500, 1, 2, 70, 33});
}

TEST_CASE(
    "Both expert paths equal every expert on every token, masked and summed", "[kernels]") {
  const auto sizes = generate_sizes();
  CAPTURE(sizes.tokens, sizes.per_token, sizes.experts, sizes.model_dim, sizes.expert_dim);
  const auto problem = make_problem(sizes);
  const auto expected = expected_results(problem);
  REQUIRE(takes_cpu_path(problem));
  check_close(output_and_gradients(problem, run_problem(problem, moe::expert_mlp)), expected);
  check_close(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp_reference)), expected);
  const torch::NoGradGuard no_grad;
  CHECK_THAT(run_problem(problem, moe::expert_mlp), AllClose(expected[0], kFloat32Tolerance));
}

TEST_CASE("The cpu path works without LibTorch's micro-kernels", "[kernels]") {
  const auto sizes = generate_sizes();
  CAPTURE(sizes.tokens, sizes.per_token, sizes.experts, sizes.model_dim, sizes.expert_dim);
  const auto problem = make_problem(sizes);
  const bool before = at::globalContext().userEnabledMkldnn();
  at::globalContext().setUserEnabledMkldnn(false);
  const auto actual = output_and_gradients(problem, run_problem(problem, moe::expert_mlp));
  at::globalContext().setUserEnabledMkldnn(before);
  check_close(actual, expected_results(problem));
}

TEST_CASE("Both expert paths compute every activation, gated or not", "[kernels]") {
  const auto activation = GENERATE(
      Activation::silu,
      Activation::gelu,
      Activation::gelu_tanh,
      Activation::relu,
      Activation::relu_squared);
  const bool gated = GENERATE(true, false);
  CAPTURE(moe::enum_name(activation), gated);
  const auto problem = make_problem({37, 2, 4, 20, 70}, {activation, gated});
  const auto expected = expected_results(problem);
  REQUIRE(takes_cpu_path(problem));
  check_close(output_and_gradients(problem, run_problem(problem, moe::expert_mlp)), expected);
  check_close(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp_reference)), expected);
}

TEST_CASE("Both expert paths compute biases", "[kernels]") {
  const bool gated = GENERATE(true, false);
  const auto sizes = GENERATE(
      ExpertSizes{0, 2, 4, 8, 16},
      ExpertSizes{12, 2, 5, 6, 4},
      ExpertSizes{150, 2, 8, 24, 20, /*same_experts=*/true},
      ExpertSizes{300, 1, 3, 131, 70});
  CAPTURE(gated, sizes.tokens);
  const auto problem = make_problem(sizes, {Activation::silu, gated}, /*bias=*/true);
  REQUIRE(takes_cpu_path(problem));
  const auto expected = expected_results(problem);
  check_close(output_and_gradients(problem, run_problem(problem, moe::expert_mlp)), expected);
  check_close(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp_reference)), expected);
}

TEST_CASE("The cpu path takes one bias without the other", "[kernels]") {
  const bool up_only = GENERATE(true, false);
  CAPTURE(up_only);
  auto problem = make_problem({40, 2, 5, 12, 9}, {}, /*bias=*/true);
  (up_only ? problem.weights.down_bias : problem.weights.up_bias) = torch::Tensor();
  const auto wide = problem.to(torch::kFloat64);
  const auto& bias = up_only ? problem.weights.up_bias : problem.weights.down_bias;
  const auto& wide_bias = up_only ? wide.weights.up_bias : wide.weights.down_bias;
  const auto gradient =
      [](const ExpertProblem& of, const torch::Tensor& output, const auto& leaf) {
        return torch::autograd::grad({output}, {leaf}, {of.output_gradient})[0];
      };
  REQUIRE(takes_cpu_path(problem));
  const auto output = run_problem(problem, moe::expert_mlp);
  CHECK_THAT(output, AllClose(every_expert_masked(wide).detach(), kFloat32Tolerance));
  CHECK_THAT(
      gradient(problem, output, bias),
      AllClose(gradient(wide, every_expert_masked(wide), wide_bias), kFloat32Tolerance));
}

TEST_CASE("Both expert paths limit, scale and offset", "[kernels]") {
  const auto activation = GENERATE(Activation::silu, Activation::gelu_tanh);
  const bool gated = GENERATE(true, false);
  const double limit = GENERATE(0.0, 0.7);
  const double sigmoid_scale = GENERATE(1.0, 1.702);
  const double offset = GENERATE(0.0, 1.0);
  CAPTURE(moe::enum_name(activation), gated, limit, sigmoid_scale, offset);
  const ExpertForm form{activation, gated, limit, sigmoid_scale, offset};
  const auto problem = make_problem({37, 2, 4, 20, 70}, form, /*bias=*/true);
  REQUIRE(takes_cpu_path(problem));
  const auto expected = expected_results(problem);
  check_close(output_and_gradients(problem, run_problem(problem, moe::expert_mlp)), expected);
  check_close(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp_reference)), expected);
}

TEST_CASE("Other types than float32, in and under autocast, take the reference", "[kernels]") {
  const auto problem = make_problem({12, 2, 5, 6, 4});
  const auto wide = problem.to(torch::kFloat64);
  CHECK_FALSE(takes_cpu_path(wide));
  check_close(
      output_and_gradients(wide, run_problem(wide, moe::expert_mlp)),
      expected_results(problem),
      1e-12);
  const auto narrow = problem.to(torch::kBFloat16);
  CHECK(moe::expert_path(narrow.input, narrow.weights) == ExpertPath::reference);
  const auto output = run_problem(narrow, moe::expert_mlp);
  CHECK(output.scalar_type() == torch::kBFloat16);
  // bfloat16 has 8 significant bits: each rounding is an error of up to 4e-3.
  check_close(output_and_gradients(narrow, output), expected_results(narrow), 2e-2);
  // A router's weights are float32 even then.
  auto mixed = narrow;
  mixed.factors = problem.factors;
  CHECK(run_problem(mixed, moe::expert_mlp).scalar_type() == torch::kBFloat16);

  CHECK(takes_cpu_path(problem));
  const AutocastGuard half(at::kCPU, torch::kFloat16);
  CHECK_FALSE(takes_cpu_path(problem));
  const AutocastGuard bfloat16(at::kCPU, torch::kBFloat16);
  CHECK(takes_cpu_path(problem));
  CHECK_FALSE(takes_cpu_path(make_problem({12, 2, 5, 5, 4})));
  CHECK_FALSE(takes_cpu_path(make_problem({12, 2, 5, 6, 3})));
}

// Twice, as the widths of bfloat16 are even.
ExpertSizes even(ExpertSizes sizes) {
  sizes.model_dim *= 2;
  sizes.expert_dim *= 2;
  return sizes;
}

/// What the cpu path computes under autocast: factors rounded, the rest exact.
torch::Tensor with_rounded_factors(const ExpertProblem& problem) {
  const auto rounded = [](const torch::Tensor& tensor) {
    return tensor.detach().to(torch::kBFloat16).to(torch::kFloat64);
  };
  const auto& [up, down, up_bias, down_bias] = problem.weights;
  auto output = torch::zeros_like(problem.input, torch::kFloat64);
  for (int64_t e = 0; e < up.size(0); ++e) {
    const auto factor = (problem.factors * (problem.experts == e)).sum(1, true).detach();
    const auto projected =
        torch::matmul(rounded(problem.input), rounded(up[e]).t()) + up_bias[e].detach();
    const auto hidden = rounded(factor * moe::activate(projected, problem.form));
    output += torch::matmul(hidden, rounded(down[e]).t()) + factor * down_bias[e].detach();
  }
  return output;
}

TEST_CASE("The cpu path computes in bfloat16 under autocast", "[kernels]") {
  const auto sizes = even(generate_sizes());
  CAPTURE(sizes.tokens, sizes.per_token, sizes.experts, sizes.model_dim, sizes.expert_dim);
  const auto problem = make_problem(sizes, {}, /*bias=*/true);
  const AutocastGuard autocast(at::kCPU, torch::kBFloat16);
  REQUIRE(takes_cpu_path(problem));
  const auto output = run_problem(problem, moe::expert_mlp);
  CHECK(output.scalar_type() == torch::kFloat32);
  // A hidden number at the middle between two of bfloat16 may be rounded either way.
  CHECK_THAT(output, AllClose(with_rounded_factors(problem), 2e-4));
  check_close(
      output_and_gradients(problem, output), expected_results(problem), kBFloat16Tolerance);
  const torch::NoGradGuard no_grad;
  CHECK_THAT(run_problem(problem, moe::expert_mlp), SameBits(output));
}

TEST_CASE("The cpu path computes every form in bfloat16", "[kernels]") {
  for (const auto& form : expert_forms()) {
    CAPTURE(moe::enum_name(form.activation), form.gated);
    CAPTURE(form.limit, form.sigmoid_scale, form.offset);
    // Rounded before, as an input on the other side of a kink has another gradient.
    const auto problem =
        make_problem({37, 2, 4, 24, 72}, form).to(torch::kBFloat16).to(torch::kFloat32);
    const auto expected = expected_results(problem);
    const AutocastGuard autocast(at::kCPU, torch::kBFloat16);
    check_close(
        output_and_gradients(problem, run_problem(problem, moe::expert_mlp)),
        expected,
        narrow_tolerance(form));
  }
}

TEST_CASE("The reference passes a numerical gradient check", "[kernels]") {
  const auto problem = make_problem({4, 2, 3, 3, 2}, {}, /*bias=*/true).to(torch::kFloat64);
  const auto loss = [&] {
    return (run_problem(problem, moe::expert_mlp_reference) * problem.output_gradient).sum();
  };
  CHECK(moe::testing::gradient_error(loss, problem.leaves()) < 1e-7);
}

TEST_CASE("Experts without rows have gradients of zeros", "[kernels]") {
  const auto problem = make_problem({3, 1, 4, 6, 5, /*same_experts=*/true});
  const auto kernel = GENERATE(moe::expert_mlp, moe::expert_mlp_reference);
  const auto results = output_and_gradients(problem, run_problem(problem, kernel));
  for (const auto& gradient : {results[3], results[4]}) {
    CHECK(gradient[0].abs().sum().item<float>() > 0.0F);
    CHECK(torch::equal(gradient.narrow(0, 1, 3), torch::zeros_like(gradient.narrow(0, 1, 3))));
  }
}

TEST_CASE("The cpu path takes transposed tensors", "[kernels]") {
  auto problem = make_problem({40, 2, 3, 12, 10});
  const auto expected = output_and_gradients(problem, run_problem(problem, moe::expert_mlp));
  const auto transpose = [](const torch::Tensor& tensor) {
    return tensor.detach().transpose(0, 1).contiguous().transpose(0, 1).requires_grad_();
  };
  problem.input = transpose(problem.input);
  problem.factors = transpose(problem.factors);
  problem.weights.up = transpose(problem.weights.up);
  problem.weights.down = transpose(problem.weights.down);
  problem.output_gradient = transpose(problem.output_gradient);
  REQUIRE_FALSE(problem.weights.down.is_contiguous());
  check_same_bits(
      output_and_gradients(problem, run_problem(problem, moe::expert_mlp)), expected);
}

TEST_CASE("Rows that are not in the list are not computed", "[kernels]") {
  // Token 0 keeps one of its two rows, token 1 none, token 2 both.
  auto problem = make_problem({3, 2, 2, 6, 5, /*same_experts=*/true});
  const auto mask = torch::tensor({{1.0F, 0.0F}, {0.0F, 0.0F}, {1.0F, 1.0F}});
  const auto int32 = torch::kInt32;
  const auto row_weight =
      torch::stack({problem.factors[0][0], problem.factors[2][0], problem.factors[2][1]});
  const Dispatch rows{
      torch::tensor({0, 2, 2}, int32),
      row_weight,
      torch::tensor({0, 2, 3}, int32),
      torch::tensor({{0, -1}, {-1, -1}, {1, 2}}, int32)};
  auto wide = problem.to(torch::kFloat64);
  const auto factors = wide.factors;
  wide.factors = factors * mask;
  const auto output = every_expert_masked(wide);
  wide.factors = factors;
  const auto expected = output_and_gradients(wide, output);
  const auto kernel = GENERATE(moe::expert_mlp, moe::expert_mlp_reference);
  check_close(
      output_and_gradients(problem, kernel(problem.input, rows, problem.weights, problem.form)),
      expected);
}

TEST_CASE("Each gradient is the same whether or not others are asked for", "[kernels]") {
  const auto problem = make_problem({50, 2, 4, 24, 20});
  const auto all = output_and_gradients(problem, run_problem(problem, moe::expert_mlp));
  const auto leaves = problem.leaves();
  for (size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    for (const auto& leaf : leaves) {
      leaf.requires_grad_(leaf.is_same(leaves[i]));
    }
    const auto gradient = torch::autograd::grad(
        {run_problem(problem, moe::expert_mlp)}, {leaves[i]}, {problem.output_gradient});
    CHECK_THAT(gradient[0], SameBits(all[i + 1]));
  }
}

TEST_CASE("The cpu path can be differentiated repeatedly, but not twice", "[kernels]") {
  const auto problem = make_problem({20, 2, 4, 8, 6});
  const auto output = run_problem(problem, moe::expert_mlp);
  const auto gradients = [&](bool create_graph) {
    return torch::autograd::grad(
        {output},
        problem.leaves(),
        {problem.output_gradient},
        /*retain_graph=*/true,
        create_graph);
  };
  const auto first = gradients(/*create_graph=*/false);
  check_same_bits(gradients(/*create_graph=*/false), first);
  CHECK_THROWS_WITH(
      gradients(/*create_graph=*/true), ContainsSubstring("no second derivatives"));
}

TEST_CASE("The cpu path gives the same bits for any number of threads", "[kernels][threads]") {
  const auto sizes = GENERATE(
      ExpertSizes{1, 2, 4, 8, 16},
      ExpertSizes{300, 2, 5, 140, 150},
      ExpertSizes{700, 1, 3, 64, 540, true});
  const bool narrow = GENERATE(false, true);
  CAPTURE(sizes.tokens, narrow);
  const auto problem = make_problem(sizes, {}, /*bias=*/true);
  const AutocastGuard autocast(at::kCPU, narrow ? torch::kBFloat16 : torch::kFloat32);
  REQUIRE(takes_cpu_path(problem));
  const int before = at::get_num_threads();
  at::set_num_threads(1);
  const auto expected = output_and_gradients(problem, run_problem(problem, moe::expert_mlp));
  for (const int threads : {2, 3, 2, 3}) {
    CAPTURE(threads);
    at::set_num_threads(threads);
    const auto actual = output_and_gradients(problem, run_problem(problem, moe::expert_mlp));
    at::set_num_threads(before);
    check_same_bits(actual, expected);
  }
}

TEST_CASE("expert_mlp names what does not fit", "[kernels]") {
  const auto problem = make_problem({6, 2, 4, 8, 5});
  const auto rows = moe::dispatch(problem.experts, problem.factors, 4);
  const auto& weights = problem.weights;
  const auto call = [&](const torch::Tensor& input, const ExpertWeights& changed) {
    return moe::expert_mlp(input, rows, changed, problem.form);
  };
  CHECK_THROWS_WITH(
      call(problem.input.narrow(1, 0, 7), weights),
      ContainsSubstring("input must be [T, model_dim = 8]"));
  CHECK_THROWS_WITH(
      call(problem.input.narrow(0, 0, 5), weights), ContainsSubstring("rows are of 6 tokens"));
  CHECK_THROWS_WITH(
      call(problem.input, {weights.up.narrow(1, 0, 9), weights.down, {}, {}}),
      ContainsSubstring("asks for up [4, 10, 8], got [4, 9, 8]"));
  CHECK_THROWS_WITH(
      call(problem.input, {weights.up.narrow(0, 0, 3), weights.down.narrow(0, 0, 3), {}, {}}),
      ContainsSubstring("rows are sorted for 4 experts, the weights have 3"));
  CHECK_THROWS_WITH(
      call(problem.input, {weights.up, weights.down, torch::ones({4, 5}), {}}),
      ContainsSubstring("up_bias must be [4, 10]"));
}

} // namespace
