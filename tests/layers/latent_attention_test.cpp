#include "moe/layers/latent_attention.h"

#include "tests/support/gradient_check.h"
#include "tests/support/module_contract.h"

using namespace moe;
using namespace moe::testing;

namespace {

AttentionForm small_form(int64_t query_latent) {
  return {
      .num_heads = 3,
      .head_dim = 10,
      .qk_norm = false,
      .query_latent_dim = query_latent,
      .key_value_latent_dim = 5,
      .value_head_dim = 7};
}

LatentAttentionOptions options_of(const AttentionForm& form) {
  return LatentAttentionOptions(/*model_dim=*/12, form)
      .rotary_dim(4)
      .initializer_range(0.4)
      .output_initializer_range(0.4);
}

LatentAttentionOptions small_options(int64_t query_latent) {
  return options_of(small_form(query_latent));
}

SequenceContext context_of(const LatentAttention& attention, int64_t first, int64_t length) {
  SequenceContext context;
  context.rotary =
      rotary_table(first, length, attention->options.rotary_dim(), 100.0, torch::kFloat64);
  return context;
}

LatentAttention make_attention(const LatentAttentionOptions& options) {
  LatentAttention attention(options);
  attention->to(torch::kFloat64);
  return attention;
}

// Head by head and token by token.
torch::Tensor by_definition(LatentAttention& attention, const torch::Tensor& input) {
  const auto& options = attention->options;
  const int64_t still = options.form().head_dim - options.rotary_dim();
  const auto table = context_of(attention, 0, input.size(1)).rotary;
  const auto turn = [&](const torch::Tensor& x) {
    return apply_rotary(x.unsqueeze(2), table).squeeze(2);
  };
  const auto latent = attention->kv_norm(
      attention->kv_down_proj(input).slice(-1, 0, options.form().key_value_latent_dim));
  const auto turned_key =
      turn(attention->kv_down_proj(input).slice(-1, options.form().key_value_latent_dim));
  const auto queries =
      options.form().query_latent_dim > 0
          ? attention->q_up_proj(attention->q_norm(attention->q_down_proj(input)))
          : attention->q_proj(input);
  const auto key_values = attention->kv_up_proj(latent);
  const int64_t wide = still + options.form().value_head_dim;
  std::vector<torch::Tensor> heads;
  for (int64_t h = 0; h < options.form().num_heads; ++h) {
    const auto query =
        queries.slice(-1, h * options.form().head_dim, (h + 1) * options.form().head_dim);
    const auto key = key_values.slice(-1, h * wide, h * wide + still);
    const auto value = key_values.slice(-1, h * wide + still, (h + 1) * wide);
    const auto scores =
        (torch::matmul(query.slice(-1, 0, still), key.transpose(1, 2)) +
         torch::matmul(turn(query.slice(-1, still)), turned_key.transpose(1, 2))) /
        std::sqrt(static_cast<double>(options.form().head_dim));
    const auto future =
        torch::ones({input.size(1), input.size(1)}, torch::kBool).triu(/*diagonal=*/1);
    heads.push_back(
        torch::matmul(torch::softmax(scores.masked_fill(future, -INFINITY), -1), value));
  }
  return attention->o_proj(torch::cat(heads, -1));
}

} // namespace

TEST_CASE("LatentAttention: equals the definition, and token by token the same", "[layers]") {
  torch::manual_seed(0);
  const auto query_latent = GENERATE(as<int64_t>(), 0, 6);
  auto attention = make_attention(small_options(query_latent));
  const auto input = torch::randn({2, 7, 12}, torch::kFloat64);
  const auto expected = by_definition(attention, input);
  CHECK_THAT(attention(input, context_of(attention, 0, 7)), AllClose(expected, 1e-10));
  const torch::NoGradGuard no_grad;
  const auto state = attention->make_state(2, 7);
  // Only the latent vector and one key per token are remembered.
  CHECK(state->bytes() == 2 * 7 * (5 + 4) * 8);
  std::vector<torch::Tensor> parts;
  for (const auto& [first, length] : {std::make_pair(0, 3), {3, 1}, {4, 2}, {6, 1}}) {
    auto context = context_of(attention, first, length);
    context.state = state.get();
    parts.push_back(attention(input.slice(1, first, first + length), context));
  }
  CHECK_THAT(torch::cat(parts, 1), AllClose(expected, 1e-10));
}

TEST_CASE("LatentAttention: queries grow with the position, within each document", "[layers]") {
  torch::manual_seed(1);
  auto form = small_form(0);
  form.query_growth = 0.8;
  form.query_growth_length = 2;
  auto attention = make_attention(options_of(form));
  const auto input = torch::randn({1, 6, 12}, torch::kFloat64);
  const auto plain = attention(input, context_of(attention, 0, 6));
  const DocumentStarts starts{{{0, 2}}};
  auto packed = context_of(attention, 0, 6);
  packed.documents = &starts;
  auto tail = input.slice(1, 2);
  CHECK_THAT(
      attention(input, packed).slice(1, 2),
      AllClose(attention(tail, context_of(attention, 0, 4)), 1e-10));
  auto still = make_attention(small_options(0));
  {
    const torch::NoGradGuard no_grad;
    for (const auto& item : attention->named_parameters()) {
      still->named_parameters()[item.key()].copy_(item.value());
    }
  }
  const auto without = still(input, context_of(still, 0, 6));
  CHECK_THAT(plain.slice(1, 0, 2), AllClose(without.slice(1, 0, 2), 1e-10));
  CHECK((plain - without).slice(1, 2).abs().max().item<double>() > 1e-3);
}

TEST_CASE("LatentAttention: gradients and module contract", "[layers]") {
  torch::manual_seed(2);
  auto form = small_form(6);
  form.bias = true;
  auto attention = make_attention(options_of(form));
  const auto input = torch::randn({1, 4, 12}, torch::kFloat64).requires_grad_();
  const auto factor = torch::randn({1, 4, 12}, torch::kFloat64);
  const auto function = [&] {
    return (attention(input, context_of(attention, 0, 4)) * factor).sum();
  };
  CHECK(gradient_error(function, {input, attention->kv_down_proj->weight}, 12) < 1e-5);
  check_module_contract(
      LatentAttention(small_options(0)),
      {"q_proj.weight",
       "kv_down_proj.weight",
       "kv_norm.weight",
       "kv_up_proj.weight",
       "o_proj.weight"},
      "moe::LatentAttention(model_dim=12, num_heads=3, head_dim=10");
}

TEST_CASE("LatentAttention: impossible options are named", "[layers]") {
  REQUIRE_THROWS_WITH(
      LatentAttention(small_options(0).rotary_dim(10)), ContainsSubstring("rotary_dim (10)"));
  auto form = small_form(0);
  form.value_head_dim = 11;
  REQUIRE_THROWS_WITH(
      LatentAttention(options_of(form)), ContainsSubstring("value_head_dim: 11"));
}
