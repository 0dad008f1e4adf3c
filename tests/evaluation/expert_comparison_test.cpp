#include "moe/evaluation/expert_comparison.h"

#include "moe/libtorch.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("expert_similarity: the mean cosine over all pairs", "[evaluation]") {
  torch::manual_seed(1);
  SparseMoEBlock block(SparseMoEBlockOptions(8, 4).expert_dim(6).initializer_range(0.5));
  const auto inputs = torch::randn({5, 8});
  const torch::NoGradGuard no_grad;
  double sum = 0.0;
  for (int64_t a = 0; a < 4; ++a) {
    for (int64_t b = a + 1; b < 4; ++b) {
      const auto cosine = torch::cosine_similarity(
          block->expert(a)->forward(inputs), block->expert(b)->forward(inputs), /*dim=*/1);
      sum += cosine.mean().item<double>() / 6.0;
    }
  }
  CHECK_THAT(expert_similarity(block, inputs), WithinAbs(sum, 1e-6));
}

TEST_CASE("expert_similarity: copies, opposites and one alone", "[evaluation]") {
  torch::manual_seed(2);
  const auto inputs = torch::randn({5, 8});
  SparseMoEBlock block(SparseMoEBlockOptions(8, 2).expert_dim(6).initializer_range(0.5));
  const torch::NoGradGuard no_grad;
  // The same hidden units in another order are the same expert.
  const auto order = torch::tensor({5, 4, 3, 2, 1, 0});
  const auto both = torch::cat({order, order + 6});
  block->gate_up_proj[1].copy_(block->gate_up_proj[0].index_select(0, both));
  block->down_proj[1].copy_(block->down_proj[0].index_select(1, order));
  CHECK_THAT(expert_similarity(block, inputs), WithinAbs(1.0, 1e-5));
  block->down_proj[1].neg_();
  CHECK_THAT(expert_similarity(block, inputs), WithinAbs(-1.0, 1e-5));
  CHECK(expert_similarity(SparseMoEBlock(8, 1), inputs) == 1.0);
}

TEST_CASE("expert_churn: choices that are others than before", "[evaluation]") {
  const auto before = torch::tensor({{0, 1}, {2, 3}, {0, 3}});
  CHECK(expert_churn(before, before) == 0.0);
  CHECK(expert_churn(before, torch::tensor({{1, 0}, {3, 2}, {3, 0}})) == 0.0);
  CHECK_THAT(
      expert_churn(before, torch::tensor({{1, 2}, {0, 1}, {0, 3}})), WithinAbs(0.5, 1e-12));
  CHECK(expert_churn(before, torch::tensor({{1, -1}, {5, -1}, {-1, -1}})) == 0.5);
  REQUIRE_THROWS(expert_churn(before, before.slice(0, 0, 2)));
}
