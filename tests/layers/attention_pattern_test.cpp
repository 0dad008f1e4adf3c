#include "moe/layers/attention_pattern.h"

#include <cmath>

#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

// By the definition, one explicit matrix of scores per head; the queries are those of the last
// tokens.
torch::Tensor attend_by_definition(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern) {
  const auto group = queries.size(1) / keys.size(1);
  const auto key = keys.repeat_interleave(group, 1);
  const auto value = values.repeat_interleave(group, 1);
  const double scale = pattern.scale != 0.0
                           ? pattern.scale
                           : 1.0 / std::sqrt(static_cast<double>(queries.size(3)));
  const auto key_position = torch::arange(keys.size(2));
  const auto position = key_position.slice(0, keys.size(2) - queries.size(2)).unsqueeze(1);
  auto hidden = key_position > position;
  if (pattern.sliding_window > 0) {
    hidden = hidden.logical_or(position - key_position >= pattern.sliding_window);
  }
  if (pattern.chunk > 0) {
    hidden = hidden.logical_or(
        position.div(pattern.chunk, "floor") != key_position.div(pattern.chunk, "floor"));
  }
  auto scores = torch::matmul(queries, key.transpose(2, 3)) * scale;
  scores = scores.masked_fill(hidden, -INFINITY);
  if (pattern.sinks.defined()) {
    const auto sink =
        pattern.sinks.view({1, -1, 1, 1}).expand({scores.size(0), -1, scores.size(2), 1});
    scores = torch::cat({scores, sink}, -1);
    return torch::matmul(torch::softmax(scores, -1).slice(-1, 0, keys.size(2)), value);
  }
  return torch::matmul(torch::softmax(scores, -1), value);
}

} // namespace

TEST_CASE("attend: equals the definition for every pattern", "[layers]") {
  torch::manual_seed(0);
  const auto [total, length] = GENERATE(
      std::make_pair(1, 1),
      std::make_pair(13, 13),
      std::make_pair(13, 1),
      std::make_pair(13, 5),
      std::make_pair(9, 3));
  const auto window = GENERATE(as<int64_t>(), 0, 1, 4);
  const auto chunk = GENERATE(as<int64_t>(), 0, 4);
  const bool sinks = GENERATE(false, true);
  const auto value_dim = GENERATE(as<int64_t>(), 6, 5);
  if (window > 0 && chunk > 0) {
    return;
  }
  CAPTURE(total, length, window, chunk, sinks, value_dim);
  const auto options = torch::TensorOptions(torch::kFloat64).requires_grad(true);
  const auto queries = torch::randn({2, 4, length, 6}, options);
  const auto keys = torch::randn({2, 2, total, 6}, options);
  const auto values = torch::randn({2, 2, total, value_dim}, options);
  AttentionPattern pattern;
  pattern.scale = value_dim == 5 ? 0.7 : 0.0;
  pattern.sliding_window = window;
  pattern.chunk = chunk;
  std::vector<torch::Tensor> inputs{queries, keys, values};
  if (sinks) {
    pattern.sinks = torch::randn({4}, options);
    inputs.push_back(pattern.sinks);
  }
  const auto actual = attend(queries, keys, values, pattern);
  const auto expected = attend_by_definition(queries, keys, values, pattern);
  CHECK_THAT(actual, AllClose(expected, 1e-12));
  // In float32 one kernel does it all where there are as many queries as keys.
  const auto narrow = [](const torch::Tensor& tensor) {
    return tensor.defined() ? tensor.detach().to(torch::kFloat32) : tensor;
  };
  auto narrow_pattern = pattern;
  narrow_pattern.sinks = narrow(pattern.sinks);
  CHECK_THAT(
      attend(narrow(queries), narrow(keys), narrow(values), narrow_pattern).to(torch::kFloat64),
      AllClose(expected, 1e-5));
  const auto upstream = torch::randn_like(expected);
  const auto actual_gradients = torch::autograd::grad({(actual * upstream).sum()}, inputs);
  const auto expected_gradients = torch::autograd::grad({(expected * upstream).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    CHECK_THAT(actual_gradients[i], AllClose(expected_gradients[i], 1e-10));
  }
}

TEST_CASE("attend: values wider than keys are refused", "[layers]") {
  REQUIRE_THROWS_WITH(
      attend(
          torch::ones({1, 1, 2, 4}), torch::ones({1, 1, 2, 4}), torch::ones({1, 1, 2, 5}), {}),
      ContainsSubstring("values of 5") && ContainsSubstring("keys of 4"));
}
