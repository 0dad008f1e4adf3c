#include "moe/layers/router_selection.h"

#include <set>

#include "moe/layers/expert_choice.h"
#include "moe/layers/sinkhorn.h"
#include "moe/layers/token_hash.h"
#include "moe/libtorch.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("sinkhorn: tokens sum to 1 and experts to the even share", "[layers]") {
  torch::manual_seed(0);
  const auto [tokens, experts] = GENERATE(table<int64_t, int64_t>({{24, 4}, {5, 8}, {7, 7}}));
  const auto logits = torch::randn({tokens, experts}) * 3;
  const auto balanced = sinkhorn(logits, /*iterations=*/1000).exp();
  CHECK_THAT(balanced.sum(1), AllClose(torch::ones({tokens}), 1e-5));
  const double share = static_cast<double>(tokens) / static_cast<double>(experts);
  CHECK_THAT(balanced.sum(0), AllClose(torch::full({experts}, share), 2e-3));
}

TEST_CASE("sinkhorn: as by scaling rows and columns in turn", "[layers]") {
  torch::manual_seed(1);
  const auto logits = torch::randn({9, 3}, torch::kFloat64);
  auto scaled = logits.exp();
  for (int i = 0; i < 2000; ++i) {
    for (int64_t e = 0; e < 3; ++e) {
      scaled.select(1, e) *= 3.0 / scaled.select(1, e).sum().item<double>();
    }
    for (int64_t t = 0; t < 9; ++t) {
      scaled.select(0, t) /= scaled.select(0, t).sum().item<double>();
    }
  }
  CHECK_THAT(sinkhorn(logits, 1000).exp(), AllClose(scaled, 2e-3));
  // Large logits neither overflow nor vanish.
  CHECK(sinkhorn(logits * 1000).isfinite().all().item<bool>());
  CHECK(sinkhorn(torch::zeros({0, 3})).numel() == 0);
}

TEST_CASE(
    "select_experts: sinkhorn balances in training, otherwise the best are taken", "[layers]") {
  torch::manual_seed(2);
  auto options = TopKRouterOptions(4, 4).experts_per_token(1);
  options.form().selection = RouterSelection::sinkhorn;
  // Every token prefers expert 0.
  const auto logits = torch::randn({40, 4}) + torch::tensor({3.0, 0.0, 0.0, 0.0});
  SelectionInput input{logits, torch::softmax(logits, -1), {}, {}, /*training=*/false};
  const auto most = [](const torch::Tensor& experts) {
    return torch::bincount(experts.flatten(), {}, 4).max().item<int64_t>();
  };
  CHECK(torch::equal(select_experts(input, options).experts, logits.argmax(1, true)));
  CHECK(most(select_experts(input, options).experts) > 30);
  input.training = true;
  CHECK(most(select_experts(input, options).experts) < 16);
}

TEST_CASE("token_hash: spreads tokens evenly, whatever their hidden states", "[layers]") {
  const auto ids = torch::arange(20000, torch::kInt64);
  const auto order = token_hash(ids, /*num_experts=*/8, /*seed=*/3);
  REQUIRE(order.sizes() == torch::IntArrayRef({20000, 8}));
  const auto counts = torch::bincount(order.argmax(1), {}, 8);
  CHECK(counts.min().item<int64_t>() > 2500 * 0.92);
  CHECK(counts.max().item<int64_t>() < 2500 * 1.08);
  // Two experts of a token are two independent draws: each pair is as frequent.
  const auto best = std::get<1>(torch::topk(order, 2, 1));
  const auto pairs = torch::bincount(best.select(1, 0) * 8 + best.select(1, 1), {}, 64);
  const auto off_diagonal = pairs.masked_select(pairs > 0);
  CHECK(off_diagonal.numel() == 56);
  CHECK(off_diagonal.min().item<int64_t>() > 20000 / 56 * 0.75);
  CHECK(off_diagonal.max().item<int64_t>() < 20000 / 56 * 1.3);
}

TEST_CASE("token_hash: a function of token, expert and seed", "[layers]") {
  const auto ids = torch::tensor({5, 7, 5, 1000000}, torch::kInt64);
  const auto order = token_hash(ids, 6, 0);
  CHECK(torch::equal(order[0], order[2]));
  CHECK_FALSE(torch::equal(order[0], order[1]));
  CHECK_FALSE(torch::equal(token_hash(ids, 6, 1), order));
  for (int64_t t = 0; t < 4; ++t) {
    const auto* first = order[t].const_data_ptr<int64_t>();
    CHECK(std::set<int64_t>(first, first + 6).size() == 6);
  }
  // One more expert takes some tokens and moves none between the others.
  const auto many = torch::arange(1000, torch::kInt64);
  const auto before = token_hash(many, 6, 0).argmax(1);
  const auto after = token_hash(many, 7, 0).argmax(1);
  const auto moved = after != before;
  CHECK(after.masked_select(moved).eq(6).all().item<bool>());
  CHECK(moved.sum().item<int64_t>() > 90);
  CHECK(moved.sum().item<int64_t>() < 200);
}

TEST_CASE("select_experts: hash asks for the token ids", "[layers]") {
  auto options =
      TopKRouterOptions(4, 6).experts_per_token(2).form({.selection = RouterSelection::hash});
  SelectionInput input{torch::rand({3, 6}), torch::rand({3, 6}), {}, {}, false};
  REQUIRE_THROWS_WITH(select_experts(input, options), ContainsSubstring("needs the token ids"));
  input.token_ids = torch::tensor({1, 2}, torch::kInt64);
  REQUIRE_THROWS_WITH(select_experts(input, options), ContainsSubstring("must be 3 int64"));
  input.token_ids = torch::tensor({4, 9, 4}, torch::kInt64);
  const auto experts = select_experts(input, options).experts;
  CHECK(torch::equal(experts[0], experts[2]));
  input.logits = input.scores = torch::rand({3, 6});
  CHECK(torch::equal(select_experts(input, options).experts, experts));
}

TEST_CASE("expert_choice: every expert takes its best tokens", "[layers]") {
  torch::manual_seed(3);
  const auto [tokens, experts, k] =
      GENERATE(table<int64_t, int64_t, int64_t>({{12, 4, 2}, {7, 3, 1}, {5, 5, 5}, {1, 4, 1}}));
  CAPTURE(tokens, experts, k);
  const auto preference = torch::rand({tokens, experts});
  const auto chosen = expert_choice(preference, k);
  const int64_t capacity = (tokens * k + experts - 1) / experts;
  for (int64_t e = 0; e < experts; ++e) {
    for (int64_t t = 0; t < tokens; ++t) {
      const auto better = (preference.select(1, e) > preference[t][e]).sum().item<int64_t>();
      CHECK(chosen[t][e].item<bool>() == (better < capacity));
    }
  }
  CHECK(expert_choice(torch::zeros({0, 3}), 1).numel() == 0);
}
