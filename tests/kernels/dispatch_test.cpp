#include "moe/kernels/dispatch.h"

#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/cuda_device.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensor_matchers.h"

namespace {

using moe::Dispatch;
using moe::dispatch;
using moe::dispatch_by_sorting;
using moe::testing::SameBits;

torch::Tensor random_experts(int64_t num_tokens, int64_t per_token, int64_t num_experts) {
  return torch::rand({num_tokens, num_experts})
      .argsort(/*stable=*/true, /*dim=*/1, /*descending=*/false)
      .narrow(1, 0, per_token);
}

/// The definition: go through the experts, and for each through the tokens.
void check_against_definition(
    const Dispatch& rows,
    const torch::Tensor& experts,
    const torch::Tensor& weights,
    int64_t num_experts,
    const torch::Tensor& kept) {
  const auto num_tokens = experts.size(0);
  const auto per_token = experts.size(1);
  const auto keeps = [&](int64_t token, int64_t k) {
    return !kept.defined() || kept[token][k].item<bool>();
  };
  REQUIRE(
      rows.row_token.numel() ==
      (kept.defined() ? kept.sum().item<int64_t>() : num_tokens * per_token));
  REQUIRE(rows.row_weight.sizes() == rows.row_token.sizes());
  REQUIRE(rows.offsets.sizes() == torch::IntArrayRef({num_experts + 1}));
  REQUIRE(rows.token_rows.sizes() == experts.sizes());
  for (const auto& indices : {rows.row_token, rows.offsets, rows.token_rows}) {
    CHECK(indices.scalar_type() == torch::kInt32);
  }
  std::vector<std::vector<int>> rows_of_token(num_tokens);
  int row = 0;
  for (int64_t e = 0; e < num_experts; ++e) {
    CAPTURE(e, row);
    REQUIRE(rows.offsets[e].item<int>() == row);
    for (int64_t token = 0; token < num_tokens; ++token) {
      for (int64_t k = 0; k < per_token; ++k) {
        if (experts[token][k].item<int64_t>() == e && keeps(token, k)) {
          REQUIRE(rows.row_token[row].item<int64_t>() == token);
          REQUIRE(rows.row_weight[row].item<float>() == weights[token][k].item<float>());
          rows_of_token[token].push_back(row++);
        }
      }
    }
  }
  REQUIRE(rows.offsets[num_experts].item<int>() == row);
  for (int64_t token = 0; token < num_tokens; ++token) {
    auto& expected = rows_of_token[token];
    expected.insert(expected.begin(), per_token - expected.size(), -1);
    for (int64_t k = 0; k < per_token; ++k) {
      REQUIRE(rows.token_rows[token][k].item<int>() == expected[k]);
    }
  }
}

void check_both(
    const torch::Tensor& experts,
    const torch::Tensor& weights,
    int64_t num_experts,
    const torch::Tensor& kept = {}) {
  for (const auto method : {dispatch, dispatch_by_sorting}) {
    check_against_definition(
        method(experts, weights, num_experts, kept), experts, weights, num_experts, kept);
  }
}

TEST_CASE("dispatch lists the pairs by expert, then by token", "[kernels]") {
  torch::manual_seed(0);
  struct Sizes {
    int64_t tokens, per_token, experts;
  };
  const auto [tokens, per_token, experts] = GENERATE(
      Sizes{0, 2, 4},
      Sizes{1, 1, 1},
      Sizes{1, 3, 5},
      Sizes{7, 1, 3},
      Sizes{9, 4, 4},
      Sizes{30, 2, 40});
  CAPTURE(tokens, per_token, experts);
  check_both(
      random_experts(tokens, per_token, experts), torch::rand({tokens, per_token}), experts);
}

TEST_CASE("dispatch leaves out what is not kept", "[kernels]") {
  torch::manual_seed(1);
  const double share = GENERATE(0.0, 0.5, 1.0);
  CAPTURE(share);
  const auto kept = torch::rand({9, 3}) < share;
  check_both(random_experts(9, 3, 4), torch::rand({9, 3}), 4, kept);
  CHECK_THROWS_WITH(
      dispatch(random_experts(9, 3, 4), torch::rand({9, 3}), 4, kept.slice(1, 0, 2)),
      ContainsSubstring("kept must be [9, 3] bool"));
}

TEST_CASE("dispatch takes transposed choices and weights of any type", "[kernels]") {
  torch::manual_seed(0);
  const auto experts = random_experts(6, 2, 5).t().contiguous().t();
  REQUIRE_FALSE(experts.is_contiguous());
  check_both(experts, torch::rand({2, 6}).t(), 5);
  const auto narrow = torch::rand({6, 2}).to(torch::kBFloat16);
  check_both(experts, narrow, 5);
  CHECK(dispatch(experts, narrow, 5).row_weight.scalar_type() == torch::kBFloat16);
}

TEST_CASE("dispatch passes gradients of the row weights back to their pairs", "[kernels]") {
  torch::manual_seed(0);
  const auto experts = random_experts(5, 3, 4);
  const auto weights = torch::rand({5, 3}, torch::kFloat64).requires_grad_();
  const auto factors = torch::rand({15}, torch::kFloat64);
  const auto method = GENERATE(dispatch, dispatch_by_sorting);
  const auto loss = [&] {
    return (method(experts, weights, 4, {}).row_weight.square() * factors).sum();
  };
  CHECK(moe::testing::gradient_error(loss, {weights}) < 1e-7);
}

TEST_CASE("dispatch: weights of what is left out have a gradient of 0", "[kernels]") {
  torch::manual_seed(2);
  const auto experts = random_experts(5, 3, 4);
  const auto weights = torch::rand({5, 3}, torch::kFloat64).requires_grad_();
  const auto kept = torch::rand({5, 3}) < 0.6;
  const auto factors = torch::rand({kept.sum().item<int64_t>()}, torch::kFloat64);
  const auto method = GENERATE(dispatch, dispatch_by_sorting);
  const auto loss = [&] {
    return (method(experts, weights, 4, kept).row_weight.square() * factors).sum();
  };
  CHECK(moe::testing::gradient_error(loss, {weights}) < 1e-7);
  CHECK(torch::equal(weights.grad() != 0, kept));
}

TEST_CASE("dispatch names what is wrong with its arguments", "[kernels]") {
  const auto weights = torch::ones({2, 1});
  CHECK_THROWS_WITH(
      dispatch(torch::tensor({{0}, {4}}), weights, 4),
      ContainsSubstring("expert 4 is not in [0, num_experts = 4)"));
  CHECK_THROWS_WITH(
      dispatch(torch::tensor({{0}, {-1}}), weights, 4),
      ContainsSubstring("expert -1 is not in"));
  CHECK_THROWS_WITH(
      dispatch(torch::tensor({{0, 1}, {1, 2}}), weights, 4),
      ContainsSubstring("weights [2, 1] do not match experts [2, 2]"));
  CHECK_THROWS_WITH(
      dispatch(torch::ones({2, 1}), weights, 4), ContainsSubstring("must be [T, K] int64"));
}

TEST_CASE("dispatch on a CUDA device equals dispatch on the CPU", "[kernels][gpu]") {
  if (!moe::testing::has_cuda_device()) {
    return;
  }
  torch::manual_seed(0);
  const bool all = GENERATE(true, false);
  const auto experts = random_experts(300, 4, 16);
  const auto weights = torch::rand({300, 4});
  const auto kept = all ? torch::Tensor() : torch::rand({300, 4}) < 0.5;
  const auto expected = dispatch(experts, weights, 16, kept);
  const auto actual =
      dispatch(experts.cuda(), weights.cuda(), 16, all ? kept : kept.to(torch::kCUDA));
  CHECK_THAT(actual.row_token.cpu(), SameBits(expected.row_token));
  CHECK_THAT(actual.row_weight.cpu(), SameBits(expected.row_weight));
  CHECK_THAT(actual.offsets.cpu(), SameBits(expected.offsets));
  CHECK_THAT(actual.token_rows.cpu(), SameBits(expected.token_rows));
}

} // namespace
