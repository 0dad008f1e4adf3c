#include "moe/kernels/softmax_top_k.h"

#include <ATen/Parallel.h>

#include <limits>

#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

using moe::testing::AllClose;
using moe::testing::SameBits;

namespace {

/// By sorting each token's experts.
moe::SoftmaxTopK by_sorting(const torch::Tensor& logits, int64_t k, bool normalize) {
  const auto scores = logits.exp() / logits.exp().sum(1, /*keepdim=*/true);
  const auto order = logits.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  const auto experts = order.narrow(1, 0, k).contiguous();
  const auto weights = scores.gather(1, experts);
  return {scores, experts, normalize ? weights / weights.sum(1, true) : weights};
}

torch::Tensor tensor_of(const std::vector<std::vector<int64_t>>& rows) {
  std::vector<torch::Tensor> result;
  for (const auto& row : rows) {
    result.push_back(torch::tensor(row));
  }
  return torch::stack(result);
}

} // namespace

TEST_CASE("softmax_top_k: one pass equals sorting in float64, gradients too", "[kernels]") {
  torch::manual_seed(1);
  const auto [experts, k] = GENERATE(
      table<int64_t, int64_t>({{1, 1}, {2, 1}, {8, 2}, {8, 8}, {19, 5}, {64, 8}, {257, 9}}));
  const int64_t tokens = GENERATE(0, 1, 130, 300);
  const bool normalize = GENERATE(true, false);
  CAPTURE(experts, k, tokens, normalize);
  const auto logits = torch::randn({tokens, experts}).mul(3).requires_grad_();
  const auto wide = logits.detach().to(torch::kFloat64).requires_grad_();
  const auto actual = moe::softmax_top_k(logits, k, normalize);
  const auto expected = by_sorting(wide, k, normalize);
  CHECK_THAT(actual.experts, SameBits(expected.experts));
  CHECK_FALSE(actual.experts.requires_grad());
  CHECK_THAT(actual.scores, AllClose(expected.scores, 1e-6));
  CHECK_THAT(actual.weights, AllClose(expected.weights, 1e-6));
  // A constant in place of the sum of weights would hide a wrong derivative of it.
  const auto score_factor = torch::randn({tokens, experts});
  const auto weight_factor = torch::randn({tokens, k});
  const auto loss = [&](const moe::SoftmaxTopK& result, bool by_scores, bool by_weights) {
    auto sum = torch::zeros({}, result.scores.options());
    sum = by_scores ? sum + (result.scores * score_factor).sum() : sum;
    return by_weights ? sum + (result.weights * weight_factor).sum() : sum;
  };
  const auto [by_scores, by_weights] =
      GENERATE(table<bool, bool>({{true, true}, {true, false}, {false, true}}));
  CAPTURE(by_scores, by_weights);
  const auto gradient =
      torch::autograd::grad({loss(actual, by_scores, by_weights)}, {logits})[0];
  const auto reference =
      torch::autograd::grad({loss(expected, by_scores, by_weights)}, {wide})[0];
  const double size = reference.norm().item<double>();
  CHECK((gradient - reference).norm().item<double>() <= 1e-5 * size + 1e-6);
}

TEST_CASE("softmax_top_k: of equal logits the lower experts", "[kernels]") {
  const auto logits = torch::tensor(
      {{1.0F, 2.0F, 1.0F, 2.0F}, {0.0F, 0.0F, 0.0F, 0.0F}, {3.0F, 1.0F, 3.0F, 3.0F}});
  CHECK_THAT(
      moe::softmax_top_k(logits, 3, true).experts,
      SameBits(tensor_of({{1, 3, 0}, {0, 1, 2}, {0, 2, 3}})));
}

TEST_CASE("softmax_top_k: tells logits apart whose scores are equal", "[kernels]") {
  const auto logits = torch::tensor({{-3000.0F, 100.0F, -1000.0F, -2000.0F}});
  CHECK_THAT(moe::softmax_top_k(logits, 3, true).experts, SameBits(tensor_of({{1, 2, 3}})));
  CHECK_THAT(
      moe::softmax_top_k(logits.to(torch::kFloat64), 3, true).experts,
      SameBits(tensor_of({{1, 2, 3}})));
}

TEST_CASE("softmax_top_k: lists distinct experts where logits are not numbers", "[kernels]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  const auto logits = torch::tensor({{nan, nan, nan, nan}, {1.0F, nan, 2.0F, nan}});
  const auto experts = moe::softmax_top_k(logits, 3, true).experts;
  for (int64_t token = 0; token < 2; ++token) {
    const auto sorted = std::get<0>(experts[token].sort());
    CAPTURE(sorted);
    CHECK((sorted.diff() > 0).all().item<bool>());
    CHECK(sorted[0].item<int64_t>() >= 0);
    CHECK(sorted[2].item<int64_t>() < 4);
  }
}

TEST_CASE("softmax_top_k: takes views, and all types of numbers", "[kernels]") {
  torch::manual_seed(2);
  const auto logits = torch::randn({12, 40}).t();
  const auto expected = by_sorting(logits.to(torch::kFloat64), 3, true);
  for (const auto type : {torch::kFloat32, torch::kFloat64}) {
    const auto actual = moe::softmax_top_k(logits.to(type), 3, true);
    CAPTURE(type);
    CHECK(actual.weights.scalar_type() == type);
    CHECK_THAT(actual.experts, SameBits(expected.experts));
    CHECK_THAT(actual.weights, AllClose(expected.weights, 1e-6));
  }
}

TEST_CASE("softmax_top_k: names k and the logits where they do not match", "[kernels]") {
  const int64_t k = GENERATE(0, 5);
  CHECK_THROWS_WITH(
      moe::softmax_top_k(torch::zeros({3, 4}), k, true),
      ContainsSubstring("k (" + std::to_string(k) + ")") && ContainsSubstring("[3, 4]"));
}

TEST_CASE("softmax_top_k gives the same bits for any number of threads", "[kernels][threads]") {
  torch::manual_seed(3);
  const auto logits = torch::randn({5000, 64}).requires_grad_();
  const auto with_threads = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto result = moe::softmax_top_k(logits, 8, true);
    const auto loss = result.weights.square().sum() + result.scores.square().sum();
    const auto gradient = torch::autograd::grad({loss}, {logits})[0];
    at::set_num_threads(before);
    return std::vector<torch::Tensor>{result.scores, result.experts, result.weights, gradient};
  };
  const auto one = with_threads(1);
  const auto three = with_threads(3);
  for (size_t i = 0; i < one.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(one[i], SameBits(three[i]));
  }
}
