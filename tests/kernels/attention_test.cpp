#include "moe/kernels/attention.h"

#include <ATen/Parallel.h>

#include "moe/libtorch.h"
#include "moe/training/autocast_guard.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

namespace {

using moe::AutocastGuard;
using moe::fused_attention;
using moe::FusedAttentionForm;
using moe::testing::SameBits;

struct AttentionProblem {
  int64_t batch, num_heads, num_kv_heads, length, head_dim;
  int64_t sliding_window = 0;
  bool has_sinks = false;
  std::vector<std::vector<int64_t>> document_starts{};
};

/// Output, and gradients of queries, keys, values and sinks for a given gradient of it.
using AttentionTensors = std::vector<torch::Tensor>;

/// Row `i` of `documents` [B, S] numbers the tokens' documents.
torch::Tensor document_numbers(const AttentionProblem& problem) {
  auto numbers = torch::zeros({problem.batch, problem.length}, torch::kInt64);
  for (size_t b = 0; b < problem.document_starts.size(); ++b) {
    for (const auto start : problem.document_starts[b]) {
      numbers[static_cast<int64_t>(b)].slice(0, start).add_(1);
    }
  }
  return numbers;
}

/// The definition, with all S x S scores: queries [B, S, H, d], keys and values [B, S, Hkv, d].
torch::Tensor slow_attention(
    const AttentionProblem& problem, const AttentionTensors& inputs, double scale) {
  const auto group = problem.num_heads / problem.num_kv_heads;
  const auto queries = inputs[0].transpose(1, 2);
  const auto keys = inputs[1].transpose(1, 2).repeat_interleave(group, 1);
  const auto values = inputs[2].transpose(1, 2).repeat_interleave(group, 1);
  const auto position = torch::arange(problem.length);
  const auto distance = position.unsqueeze(1) - position;
  auto seen = distance >= 0;
  if (problem.sliding_window > 0) {
    seen = seen.logical_and(distance < problem.sliding_window);
  }
  const auto documents = document_numbers(problem);
  const auto same = documents.unsqueeze(2) == documents.unsqueeze(1); // [B, S, S]
  const auto hidden = seen.logical_and(same).logical_not().unsqueeze(1);
  auto scores = (queries.matmul(keys.transpose(2, 3)) * scale)
                    .masked_fill(hidden, -std::numeric_limits<double>::infinity());
  if (problem.has_sinks) {
    const auto sinks = inputs[3].view({1, -1, 1, 1});
    scores = torch::cat(
        {scores, sinks.expand({problem.batch, problem.num_heads, problem.length, 1})}, 3);
  }
  return torch::softmax(scores, 3).slice(3, 0, problem.length).matmul(values).transpose(1, 2);
}

AttentionTensors make_inputs(const AttentionProblem& problem) {
  torch::manual_seed(5);
  const auto heads = [&](int64_t count) {
    return torch::randn({problem.batch, problem.length, count, problem.head_dim});
  };
  AttentionTensors inputs{
      heads(problem.num_heads), heads(problem.num_kv_heads), heads(problem.num_kv_heads)};
  if (problem.has_sinks) {
    inputs.push_back(torch::randn({problem.num_heads}));
  }
  return inputs;
}

/// Runs `attend` on copies of `inputs` in `type` and differentiates it.
template <typename Attend>
AttentionTensors differentiate(
    const AttentionTensors& inputs, torch::ScalarType type, const Attend& attend) {
  AttentionTensors leaves;
  for (const auto& input : inputs) {
    leaves.push_back(input.to(type, /*non_blocking=*/false, /*copy=*/true).requires_grad_());
  }
  const auto output = attend(leaves);
  torch::manual_seed(6);
  output.backward(torch::randn(output.sizes()).to(type));
  AttentionTensors results{output.detach()};
  for (const auto& leaf : leaves) {
    results.push_back(leaf.grad());
  }
  return results;
}

AttentionTensors fused(
    const AttentionProblem& problem,
    const AttentionTensors& inputs,
    double scale,
    torch::ScalarType type = torch::kFloat32) {
  return differentiate(inputs, type, [&](const AttentionTensors& leaves) {
    const FusedAttentionForm form{
        problem.sliding_window,
        scale,
        problem.has_sinks ? leaves[3] : torch::Tensor(),
        problem.document_starts};
    return fused_attention(
               leaves[0].transpose(1, 2),
               leaves[1].transpose(1, 2),
               leaves[2].transpose(1, 2),
               form)
        .transpose(1, 2);
  });
}

double norm_of_error(const torch::Tensor& actual, const torch::Tensor& expected) {
  const auto error = (actual.to(torch::kFloat64) - expected).norm().item<double>();
  return error / std::max(expected.norm().item<double>(), 1.0);
}

} // namespace

TEST_CASE(
    "fused_attention equals the definition in float64, with every gradient",
    "[kernels][attention]") {
  // Lengths around the sizes of blocks (64 queries), strips (64 keys) and 256 keys.
  const auto problem = GENERATE(
      AttentionProblem{1, 1, 1, 1, 8},
      AttentionProblem{2, 2, 2, 16, 1},
      AttentionProblem{2, 4, 2, 33, 20},
      AttentionProblem{1, 2, 2, 64, 32},
      AttentionProblem{2, 6, 1, 65, 16},
      AttentionProblem{1, 2, 1, 300, 64},
      AttentionProblem{1, 1, 1, 520, 5},
      AttentionProblem{1, 2, 2, 40, 8, /*sliding_window=*/1},
      AttentionProblem{1, 2, 1, 200, 12, /*sliding_window=*/17},
      AttentionProblem{1, 1, 1, 600, 8, /*sliding_window=*/290},
      AttentionProblem{1, 1, 1, 90, 8, /*sliding_window=*/90},
      AttentionProblem{2, 2, 1, 70, 8, /*sliding_window=*/0, /*has_sinks=*/true},
      AttentionProblem{1, 3, 3, 300, 8, /*sliding_window=*/40, /*has_sinks=*/true},
      AttentionProblem{2, 2, 2, 130, 8, 0, false, {{0, 1, 64, 100}, {0}}},
      AttentionProblem{2, 2, 1, 330, 8, 50, true, {{0, 299}, {0, 7, 8, 150}}});
  CAPTURE(problem.length, problem.head_dim, problem.sliding_window, problem.has_sinks);
  const auto inputs = make_inputs(problem);
  const double scale = 1.0 / std::sqrt(static_cast<double>(problem.head_dim));
  const auto expected =
      differentiate(inputs, torch::kFloat64, [&](const AttentionTensors& leaves) {
        return slow_attention(problem, leaves, scale);
      });
  const auto actual = fused(problem, inputs, /*scale=*/0.0);
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(norm_of_error(actual[i], expected[i]) < 2e-6);
  }
}

TEST_CASE("fused_attention: a scale of one's own, and large scores", "[kernels][attention]") {
  const AttentionProblem problem{1, 2, 1, 100, 16};
  const double scale = GENERATE(1e-3, 1.0, 30.0);
  const auto inputs = make_inputs(problem);
  const auto expected =
      differentiate(inputs, torch::kFloat64, [&](const AttentionTensors& leaves) {
        return slow_attention(problem, leaves, scale);
      });
  const auto actual = fused(problem, inputs, scale);
  CHECK(norm_of_error(actual[0], expected[0]) < 1e-4);
  for (size_t i = 1; i < expected.size(); ++i) {
    CAPTURE(i, scale);
    CHECK(norm_of_error(actual[i], expected[i]) < 1e-4);
  }
}

TEST_CASE(
    "fused_attention: what autocast made is computed in float32", "[kernels][attention]") {
  const AttentionProblem problem{2, 4, 2, 130, 16};
  auto inputs = make_inputs(problem);
  for (auto& input : inputs) {
    input = input.to(torch::kBFloat16);
  }
  const auto expected =
      differentiate(inputs, torch::kFloat64, [&](const AttentionTensors& leaves) {
        return slow_attention(problem, leaves, /*scale=*/0.25);
      });
  REQUIRE_THROWS_WITH(
      fused(problem, inputs, 0.25, torch::kBFloat16), ContainsSubstring("only float32"));
  const AutocastGuard autocast(at::kCPU, torch::kBFloat16);
  const auto actual = fused(problem, inputs, 0.25, torch::kBFloat16);
  CHECK(actual[0].scalar_type() == torch::kFloat32);
  CHECK(norm_of_error(actual[0], expected[0]) < 2e-6);
  for (size_t i = 1; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK(actual[i].scalar_type() == torch::kBFloat16);
    CHECK(norm_of_error(actual[i], expected[i]) < 1e-2);
  }
}

TEST_CASE("fused_attention: what is not seen changes not a bit", "[kernels][attention]") {
  const AttentionProblem problem{1, 2, 2, 150, 8, /*sliding_window=*/40};
  const auto inputs = make_inputs(problem);
  auto others = inputs;
  for (auto& other : others) {
    other = other.clone();
    other[0].slice(0, 100).fill_(1e4);
    other[0].slice(0, 0, 20).fill_(-1e4);
  }
  const auto seen = [](const torch::Tensor& tensor) { return tensor.slice(1, 60, 100); };
  const auto before = fused(problem, inputs, 0.0)[0];
  const auto after = fused(problem, others, 0.0)[0];
  CHECK_THAT(seen(after), SameBits(seen(before)));
  CHECK_FALSE(torch::equal(after.slice(1, 100), before.slice(1, 100)));
}

TEST_CASE(
    "fused_attention gives the same bits for any number of threads",
    "[kernels][attention][threads]") {
  const AttentionProblem problem{2, 4, 2, 333, 24, 0, true, {{0, 100}, {0}}};
  const auto inputs = make_inputs(problem);
  const auto with_threads = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    auto result = fused(problem, inputs, 0.0);
    at::set_num_threads(before);
    return result;
  };
  const auto one = with_threads(1);
  const auto three = with_threads(3);
  for (size_t i = 0; i < one.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(three[i], SameBits(one[i]));
  }
}

TEST_CASE("fused_attention: wrong shapes are errors", "[kernels][attention]") {
  const auto heads = [](int64_t count) { return torch::randn({1, count, 4, 8}); };
  REQUIRE_THROWS_WITH(
      fused_attention(heads(3), heads(2), heads(2), {}),
      ContainsSubstring("H a multiple of Hkv"));
  FusedAttentionForm form;
  form.sinks = torch::zeros({2});
  REQUIRE_THROWS_WITH(
      fused_attention(heads(3), heads(3), heads(3), form),
      ContainsSubstring("sinks must be [H = 3]"));
  const auto wide = torch::randn({1, 3, 4, 8}, torch::kFloat64);
  REQUIRE_THROWS_WITH(
      fused_attention(wide, wide, wide, {}), ContainsSubstring("only float32 on the CPU"));
}
