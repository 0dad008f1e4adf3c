#include "moe/kernels/attention_heads.h"

#include "moe/libtorch.h"
#include "moe/training/autocast_guard.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

namespace {

using moe::attention_heads;
using moe::AttentionHeads;
using moe::AttentionHeadsForm;
using moe::AutocastGuard;
using moe::testing::AllClose;
using moe::testing::SameBits;

// In float64, operation by operation.
torch::Tensor turn(
    const torch::Tensor& heads, const torch::Tensor& norm, const AttentionHeadsForm& form) {
  const auto normed =
      norm.defined() ? torch::rms_norm(heads, {form.head_dim}, norm, form.norm_epsilon) : heads;
  const int64_t pairs = form.cos.size(1);
  const auto left = normed.narrow(-1, 0, pairs);
  const auto right = normed.narrow(-1, pairs, pairs);
  const auto rest = normed.slice(-1, 2 * pairs);
  const auto cos = form.cos.to(torch::kFloat64).unsqueeze(1);
  const auto sin = form.sin.to(torch::kFloat64).unsqueeze(1);
  return torch::cat({left * cos - right * sin, right * cos + left * sin, rest}, -1);
}

AttentionHeads by_operations(const torch::Tensor& projected, const AttentionHeadsForm& form) {
  const auto parts =
      projected.view({projected.size(0), projected.size(1), -1, form.head_dim})
          .split_with_sizes({form.num_heads, form.num_kv_heads, form.num_kv_heads}, 2);
  return {turn(parts[0], form.query_norm, form), turn(parts[1], form.key_norm, form), parts[2]};
}

torch::Tensor sum_of(const AttentionHeads& heads, const std::vector<torch::Tensor>& factors) {
  return (heads.queries * factors[0]).sum() + (heads.keys * factors[1]).sum() +
         (heads.values * factors[2]).sum();
}

} // namespace

TEST_CASE("attention_heads: one pass equals operations in float64", "[kernels]") {
  torch::manual_seed(4);
  const bool norm = GENERATE(false, true);
  const auto [batch, length, heads, kv_heads, head_dim, pairs] = GENERATE(
      std::make_tuple(1, 1, 1, 1, 2, 1),
      std::make_tuple(2, 65, 4, 2, 6, 3),
      std::make_tuple(2, 65, 4, 2, 6, 2),
      std::make_tuple(2, 7, 2, 2, 4, 0),
      std::make_tuple(3, 130, 2, 1, 32, 16),
      std::make_tuple(3, 130, 2, 1, 32, 4));
  CAPTURE(norm, batch, length, pairs);
  const auto leaf = [](const torch::Tensor& tensor) { return tensor.requires_grad_(); };
  const auto wide = [&](const torch::Tensor& tensor) {
    return leaf(tensor.detach().to(torch::kFloat64));
  };
  const auto projected = leaf(torch::randn({batch, length, (heads + 2 * kv_heads) * head_dim}));
  const auto angles = torch::rand({length, pairs}) * 6;
  AttentionHeadsForm form{heads, kv_heads, head_dim, {}, {}, 1e-5, angles.cos(), angles.sin()};
  auto wide_form = form;
  std::vector<torch::Tensor> leaves{projected};
  std::vector<torch::Tensor> wide_leaves{wide(projected)};
  if (norm) {
    form.query_norm = leaf(torch::randn({head_dim}));
    form.key_norm = leaf(torch::randn({head_dim}));
    wide_form.query_norm = wide(form.query_norm);
    wide_form.key_norm = wide(form.key_norm);
    leaves.insert(leaves.end(), {form.query_norm, form.key_norm});
    wide_leaves.insert(wide_leaves.end(), {wide_form.query_norm, wide_form.key_norm});
  }
  REQUIRE(can_fuse_attention_heads(projected, form));
  REQUIRE(!can_fuse_attention_heads(wide_leaves[0], wide_form));
  const auto expected = by_operations(wide_leaves[0], wide_form);
  const auto actual = attention_heads(projected, form);
  CHECK_THAT(actual.queries, AllClose(expected.queries, 1e-6));
  CHECK_THAT(actual.keys, AllClose(expected.keys, 1e-6));
  CHECK(torch::equal(actual.values.to(torch::kFloat64), expected.values));
  const std::vector<torch::Tensor> factors{
      torch::randn_like(expected.queries),
      torch::randn_like(expected.keys),
      torch::randn_like(expected.values)};
  const auto gradients = torch::autograd::grad({sum_of(actual, factors)}, leaves);
  const auto wide_gradients = torch::autograd::grad({sum_of(expected, factors)}, wide_leaves);
  for (size_t i = 0; i < leaves.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(gradients[i], AllClose(wide_gradients[i], 1e-5));
  }
}

TEST_CASE("attention_heads: what autocast projected is computed in float32", "[kernels]") {
  torch::manual_seed(4);
  const auto projected = torch::randn({2, 65, 48}).to(torch::kBFloat16).requires_grad_();
  const auto wide = projected.detach().to(torch::kFloat32).requires_grad_();
  const auto angles = torch::rand({65, 3}) * 6;
  const AttentionHeadsForm form{
      4, 2, 6, torch::randn({6}), torch::randn({6}), 1e-5, angles.cos(), angles.sin()};
  CHECK(!can_fuse_attention_heads(projected, form));
  const AutocastGuard autocast(at::kCPU, torch::kBFloat16);
  REQUIRE(can_fuse_attention_heads(projected, form));
  const auto actual = attention_heads(projected, form);
  const auto expected = attention_heads(wide, form);
  CHECK_THAT(actual.queries, SameBits(expected.queries));
  CHECK_THAT(actual.keys, SameBits(expected.keys));
  CHECK_THAT(actual.values, SameBits(expected.values));
  const std::vector<torch::Tensor> factors{
      torch::randn_like(expected.queries),
      torch::randn_like(expected.keys),
      torch::randn_like(expected.values)};
  const auto gradient = torch::autograd::grad({sum_of(actual, factors)}, {projected})[0];
  const auto wide_gradient = torch::autograd::grad({sum_of(expected, factors)}, {wide})[0];
  CHECK_THAT(gradient, SameBits(wide_gradient.to(torch::kBFloat16)));
}

TEST_CASE("attention_heads: only some of the results are used", "[kernels]") {
  const auto projected = torch::randn({1, 3, 12}).requires_grad_();
  const auto angles = torch::rand({3, 2});
  const AttentionHeadsForm form{1, 1, 4, {}, {}, 1e-5, angles.cos(), angles.sin()};
  const auto gradient =
      torch::autograd::grad({attention_heads(projected, form).values.sum()}, {projected})[0];
  CHECK(torch::equal(gradient.slice(2, 0, 8), torch::zeros({1, 3, 8})));
  CHECK(torch::equal(gradient.slice(2, 8), torch::ones({1, 3, 4})));
}

TEST_CASE("attention_heads: refuses what it cannot compute", "[kernels]") {
  const auto angles = torch::rand({3, 2});
  const AttentionHeadsForm form{1, 1, 4, {}, {}, 1e-5, angles.cos(), angles.sin()};
  REQUIRE_THROWS_WITH(
      attention_heads(torch::randn({1, 3, 16}), form), ContainsSubstring("[B, S = 3, 12]"));
  REQUIRE_THROWS_WITH(
      attention_heads(torch::randn({1, 3, 12}, torch::kFloat64), form),
      ContainsSubstring("only float32 on the CPU"));
  const AttentionHeadsForm wide{1, 1, 2, {}, {}, 1e-5, angles.cos(), angles.sin()};
  REQUIRE_THROWS_WITH(
      attention_heads(torch::randn({1, 3, 6}), wide),
      ContainsSubstring("at most head_dim / 2 = 1"));
}
