#include "moe/kernels/cross_entropy.h"

#include <ATen/Parallel.h>

#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

namespace {

using moe::cross_entropy;
using moe::cross_entropy_reference;
using moe::CrossEntropy;
using moe::testing::AllClose;
using moe::testing::SameBits;

struct HeadProblem {
  torch::Tensor rows;    // [T, D]
  torch::Tensor head;    // [V, D]
  torch::Tensor targets; // [T]
  torch::Tensor weights; // [T]
};

HeadProblem make_head_problem(int64_t num_rows, int64_t vocab_size, int64_t dim) {
  torch::manual_seed(3);
  return {
      torch::randn({num_rows, dim}),
      torch::randn({vocab_size, dim}),
      torch::randint(0, vocab_size, {num_rows}, torch::kInt64),
      torch::rand({num_rows})};
}

/// The same in bfloat16: what is computed from it shows no rounding of what goes in.
HeadProblem in_bfloat16(const HeadProblem& problem) {
  return {
      problem.rows.to(torch::kBFloat16),
      problem.head.to(torch::kBFloat16),
      problem.targets,
      problem.weights};
}

CrossEntropy in_float64(const HeadProblem& problem) {
  return cross_entropy_reference(
      problem.rows.to(torch::kFloat64),
      problem.head.to(torch::kFloat64),
      problem.targets,
      problem.weights.to(torch::kFloat64),
      /*need_gradient=*/true);
}

/// Compares all results, which are float32, with the reference in float64.
void check_tiles(const HeadProblem& problem, double gradient_tolerance) {
  const auto expected = in_float64(problem);
  const auto actual = cross_entropy(
      problem.rows, problem.head, problem.targets, problem.weights, /*need_gradient=*/true);
  CHECK(actual.losses.scalar_type() == torch::kFloat32);
  CHECK(actual.rows_gradient.scalar_type() == torch::kFloat32);
  CHECK(actual.head_gradient.scalar_type() == torch::kFloat32);
  CHECK_THAT(actual.losses, AllClose(expected.losses, 1e-5));
  CHECK_THAT(actual.rows_gradient, AllClose(expected.rows_gradient, gradient_tolerance));
  CHECK_THAT(actual.head_gradient, AllClose(expected.head_gradient, gradient_tolerance));
  const auto losses = cross_entropy(
      problem.rows, problem.head, problem.targets, problem.weights, /*need_gradient=*/false);
  CHECK_THAT(losses.losses, SameBits(actual.losses));
  CHECK(!losses.rows_gradient.defined());
  CHECK(!losses.head_gradient.defined());
}

} // namespace

TEST_CASE("cross_entropy: tiles equal the reference in float64", "[kernels]") {
  // Rows and vocabularies around the sizes of tiles, panels and chunks; several blocks.
  const auto [num_rows, vocab_size, dim] = GENERATE(
      std::make_tuple(1, 1, 1),
      std::make_tuple(1, 2, 3),
      std::make_tuple(127, 129, 16),
      std::make_tuple(128, 256, 128),
      std::make_tuple(130, 257, 130),
      std::make_tuple(700, 1000, 24),
      std::make_tuple(300, 40000, 8));
  CAPTURE(num_rows, vocab_size, dim);
  check_tiles(make_head_problem(num_rows, vocab_size, dim), /*gradient_tolerance=*/1e-5);
}

TEST_CASE("cross_entropy: only factors are rounded to bfloat16", "[kernels]") {
  // Besides the above, chunks, panels and widths that end within a pair.
  const auto [num_rows, vocab_size, dim] = GENERATE(
      std::make_tuple(1, 1, 1),
      std::make_tuple(1, 2, 3),
      std::make_tuple(127, 129, 16),
      std::make_tuple(128, 256, 128),
      std::make_tuple(130, 257, 130),
      std::make_tuple(70, 77, 150),
      std::make_tuple(131, 513, 129),
      std::make_tuple(700, 1000, 24),
      std::make_tuple(300, 40001, 8));
  CAPTURE(num_rows, vocab_size, dim);
  check_tiles(
      in_bfloat16(make_head_problem(num_rows, vocab_size, dim)), /*gradient_tolerance=*/4e-3);
}

TEST_CASE("cross_entropy: logits of any size", "[kernels]") {
  auto problem = make_head_problem(40, 300, 8);
  const double scale = GENERATE(0.0, 1e-3, 300.0);
  problem.rows *= scale;
  const auto expected = in_float64(problem);
  const auto actual =
      cross_entropy(problem.rows, problem.head, problem.targets, problem.weights, true);
  CHECK_THAT(actual.losses, AllClose(expected.losses, 1e-5));
  CHECK_THAT(actual.rows_gradient, AllClose(expected.rows_gradient, 1e-4));

  const auto rounded = in_bfloat16(problem);
  const auto expected_of_rounded = in_float64(rounded);
  const auto of_rounded =
      cross_entropy(rounded.rows, rounded.head, rounded.targets, rounded.weights, true);
  CHECK_THAT(of_rounded.losses, AllClose(expected_of_rounded.losses, 1e-5));
  CHECK_THAT(of_rounded.rows_gradient, AllClose(expected_of_rounded.rows_gradient, 4e-3));
}

TEST_CASE("cross_entropy: what is not finite is not hidden", "[kernels]") {
  auto problem = make_head_problem(40, 300, 8);
  const bool in_head = GENERATE(false, true);
  (in_head ? problem.head : problem.rows)[7][2] = std::numeric_limits<float>::quiet_NaN();
  if (GENERATE(false, true)) {
    problem = in_bfloat16(problem);
  }
  const auto actual =
      cross_entropy(problem.rows, problem.head, problem.targets, problem.weights, true);
  const auto count_rows = [](const torch::Tensor& values) {
    return values.isnan().reshape({values.size(0), -1}).any(1).sum().item<int64_t>();
  };
  CHECK(count_rows(actual.losses) == (in_head ? 40 : 1));
  CHECK(count_rows(actual.rows_gradient) == (in_head ? 40 : 1));
  CHECK(count_rows(actual.head_gradient) == 300);
}

TEST_CASE("cross_entropy: no rows give a gradient of zeros", "[kernels]") {
  auto problem = make_head_problem(0, 5, 3);
  if (GENERATE(false, true)) {
    problem = in_bfloat16(problem);
  }
  const auto actual =
      cross_entropy(problem.rows, problem.head, problem.targets, problem.weights, true);
  CHECK(actual.losses.numel() == 0);
  CHECK(torch::equal(actual.head_gradient, torch::zeros({5, 3})));
}

TEST_CASE("cross_entropy: a target outside the vocabulary is an error", "[kernels]") {
  auto problem = make_head_problem(3, 5, 4);
  problem.targets[1] = GENERATE(-1, 5);
  if (GENERATE(false, true)) {
    problem = in_bfloat16(problem);
  }
  REQUIRE_THROWS_WITH(
      cross_entropy(problem.rows, problem.head, problem.targets, problem.weights, true),
      ContainsSubstring("is not in [0, vocab_size = 5)"));
}

TEST_CASE("cross_entropy gives the same bits for any number of threads", "[kernels][threads]") {
  auto problem = make_head_problem(2000, 5000, 32);
  if (GENERATE(false, true)) {
    problem = in_bfloat16(problem);
  }
  const auto with_threads = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto result =
        cross_entropy(problem.rows, problem.head, problem.targets, problem.weights, true);
    at::set_num_threads(before);
    return result;
  };
  const auto one = with_threads(1);
  const auto three = with_threads(3);
  CHECK_THAT(one.losses, SameBits(three.losses));
  CHECK_THAT(one.rows_gradient, SameBits(three.rows_gradient));
  CHECK_THAT(one.head_gradient, SameBits(three.head_gradient));
}
