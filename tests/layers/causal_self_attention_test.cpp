#include "moe/layers/causal_self_attention.h"

#include <cmath>

#include "tests/support/gradient_check.h"
#include "tests/support/module_contract.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// Attention by the definition, one explicit matrix of scores per head.
torch::Tensor attention_by_definition(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    int64_t window) {
  const auto group = queries.size(1) / keys.size(1);
  const auto all_keys = keys.repeat_interleave(group, 1);
  const auto all_values = values.repeat_interleave(group, 1);
  auto scores = torch::matmul(queries, all_keys.transpose(2, 3)) /
                std::sqrt(static_cast<double>(queries.size(3)));
  const auto position = torch::arange(queries.size(2));
  const auto distance = position.unsqueeze(1) - position;
  auto hidden = distance < 0;
  if (window > 0) {
    hidden = hidden.logical_or(distance >= window);
  }
  return torch::matmul(
      torch::softmax(scores.masked_fill(hidden, -INFINITY), /*dim=*/-1), all_values);
}

SequenceContext context_for(
    const CausalSelfAttention& attention,
    int64_t first,
    int64_t length,
    torch::ScalarType type) {
  SequenceContext context;
  context.rotary =
      rotary_table(first, length, attention->options.form().head_dim, 10000.0, type);
  return context;
}

} // namespace

TEST_CASE("causal_attention: equals the definition for every window", "[layers]") {
  torch::manual_seed(0);
  const auto length = GENERATE(as<int64_t>(), 1, 2, 9, 16, 33);
  const auto window = GENERATE(as<int64_t>(), 0, 1, 4, 5, 100);
  const auto kv_heads = GENERATE(as<int64_t>(), 1, 2, 4);
  CAPTURE(length, window, kv_heads);
  const auto options = torch::TensorOptions(torch::kFloat64).requires_grad(true);
  const auto queries = torch::randn({2, 4, length, 6}, options);
  const auto keys = torch::randn({2, kv_heads, length, 6}, options);
  const auto values = torch::randn({2, kv_heads, length, 6}, options);
  const auto upstream = torch::randn({2, 4, length, 6}, torch::kFloat64);
  const auto actual = causal_attention(queries, keys, values, window);
  const auto expected = attention_by_definition(queries, keys, values, window);
  CHECK_THAT(actual, AllClose(expected, 1e-12));
  const auto actual_gradients =
      torch::autograd::grad({(actual * upstream).sum()}, {queries, keys, values});
  const auto expected_gradients =
      torch::autograd::grad({(expected * upstream).sum()}, {queries, keys, values});
  for (size_t i = 0; i < 3; ++i) {
    CHECK_THAT(actual_gradients[i], AllClose(expected_gradients[i], 1e-10));
  }
}

TEST_CASE("apply_rotary: scores depend on the distance only", "[layers]") {
  torch::manual_seed(0);
  const auto x = torch::randn({1, 1, 1, 8}, torch::kFloat64);
  const auto y = torch::randn({1, 1, 1, 8}, torch::kFloat64);
  const auto at = [&](const torch::Tensor& head, int64_t position) {
    return apply_rotary(head, rotary_table(position, 1, 8, 10000.0, torch::kFloat64));
  };
  const auto score = (at(x, 5) * at(y, 2)).sum();
  CHECK_THAT((at(x, 105) * at(y, 102)).sum(), AllClose(score, 1e-10));
  CHECK_THAT(at(x, 0), AllClose(x, 1e-12));
  CHECK_THAT(at(x, 7).norm(), AllClose(x.norm(), 1e-12));
}

TEST_CASE("apply_rotary: element m turns together with m + half, by hand", "[layers]") {
  const auto head = torch::tensor({1.0, 2.0, 3.0, 4.0}, torch::kFloat64).view({1, 1, 1, 4});
  const auto turned = apply_rotary(head, rotary_table(3, 1, 4, 100.0, torch::kFloat64));
  // Frequencies are 1 and 100^(-1/2) = 0.1, angles at position 3 are 3 and 0.3.
  const auto expected = torch::tensor(
      {std::cos(3.0) - 3 * std::sin(3.0),
       2 * std::cos(0.3) - 4 * std::sin(0.3),
       3 * std::cos(3.0) + std::sin(3.0),
       4 * std::cos(0.3) + 2 * std::sin(0.3)},
      torch::kFloat64);
  CHECK_THAT(turned.flatten(), AllClose(expected, 1e-12));
}

TEST_CASE("CausalSelfAttention: with a cache equals without, however it is fed", "[layers]") {
  torch::manual_seed(1);
  const auto window = GENERATE(as<int64_t>(), 0, 3);
  const auto first_part = GENERATE(as<int64_t>(), 1, 4, 7);
  CausalSelfAttention attention(
      CausalSelfAttentionOptions(
          16, AttentionForm{.num_heads = 4, .num_kv_heads = 2, .sliding_window = window})
          .initializer_range(0.5));
  const torch::NoGradGuard no_grad;
  const auto input = torch::randn({2, 9, 16});
  const auto expected = attention(input, context_for(attention, 0, 9, torch::kFloat32));
  const auto state = attention->make_state(2, 9);
  std::vector<torch::Tensor> parts;
  for (const auto& [begin, end] :
       std::vector<std::pair<int64_t, int64_t>>{{0, first_part}, {first_part, 8}, {8, 9}}) {
    if (begin == end) {
      continue;
    }
    auto context = context_for(attention, begin, end - begin, torch::kFloat32);
    context.state = state.get();
    parts.push_back(attention(input.slice(1, begin, end), context));
  }
  CHECK_THAT(torch::cat(parts, 1), AllClose(expected, 1e-5));
  CHECK(state->bytes() == 2 * 2 * 2 * 9 * 4 * 4);
}

TEST_CASE("CausalSelfAttention: documents do not see each other", "[layers]") {
  torch::manual_seed(2);
  CausalSelfAttention attention(CausalSelfAttentionOptions(8, 2).initializer_range(0.5));
  const auto input = torch::randn({1, 7, 8});
  const auto starts =
      document_starts(torch::tensor({0, 0, 0, 1, 1, 1, 1}, torch::kInt64).view({1, 7}));
  auto context = context_for(attention, 0, 7, torch::kFloat32);
  context.documents = &starts;
  const auto output = attention(input, context);
  const auto alone = [&](int64_t begin, int64_t end) {
    return attention(
        input.slice(1, begin, end),
        context_for(attention, begin, end - begin, torch::kFloat32));
  };
  CHECK_THAT(output.slice(1, 0, 3), AllClose(alone(0, 3), 1e-5));
  CHECK_THAT(output.slice(1, 3, 7), AllClose(alone(3, 7), 1e-5));
}

TEST_CASE("CausalSelfAttention: every gradient agrees with central differences", "[layers]") {
  torch::manual_seed(3);
  const bool qk_norm = GENERATE(false, true);
  CausalSelfAttention attention(CausalSelfAttentionOptions(
                                    8,
                                    AttentionForm{
                                        .num_heads = 4,
                                        .num_kv_heads = 2,
                                        .qk_norm = qk_norm,
                                        .bias = true,
                                        .sliding_window = 3})
                                    .initializer_range(0.5)
                                    .output_initializer_range(0.5));
  attention->to(torch::kFloat64);
  const auto input = torch::randn({2, 5, 8}, torch::kFloat64).requires_grad_();
  const auto upstream = torch::randn({2, 5, 8}, torch::kFloat64);
  auto inputs = attention->parameters();
  inputs.push_back(input);
  const auto context = context_for(attention, 0, 5, torch::kFloat64);
  CHECK(
      gradient_error([&] { return (attention(input, context) * upstream).sum(); }, inputs) <
      1e-6);
}

TEST_CASE("CausalSelfAttention: is a LibTorch module", "[layers]") {
  check_module_contract(
      CausalSelfAttention(
          CausalSelfAttentionOptions(8, AttentionForm{.num_heads = 2, .bias = true})),
      {"qkv_proj.weight",
       "qkv_proj.bias",
       "o_proj.weight",
       "o_proj.bias",
       "q_norm.weight",
       "k_norm.weight"},
      "moe::CausalSelfAttention(model_dim=8, num_heads=2, num_kv_heads=2");
}

TEST_CASE("CausalSelfAttention: impossible options are named", "[layers]") {
  REQUIRE_THROWS_WITH(
      CausalSelfAttention(
          CausalSelfAttentionOptions(8, AttentionForm{.num_heads = 4, .num_kv_heads = 3})),
      ContainsSubstring("num_kv_heads: 3") && ContainsSubstring("num_heads (4)"));
  REQUIRE_THROWS_WITH(
      CausalSelfAttention(
          CausalSelfAttentionOptions(8, AttentionForm{.num_heads = 4, .head_dim = 3})),
      ContainsSubstring("head_dim: 3"));
  REQUIRE_THROWS_WITH(
      CausalSelfAttention(CausalSelfAttentionOptions(
          8, AttentionForm{.num_heads = 4, .qk_norm = false, .key_value_latent_dim = 3})),
      ContainsSubstring("LatentAttention has it"));
}
