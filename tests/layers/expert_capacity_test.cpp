#include "moe/layers/expert_capacity.h"

#include <algorithm>
#include <vector>

#include "moe/libtorch.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

struct Row {
  double score;
  int64_t token;
  int64_t slot;
};

/// Goes through the experts and lines up the rows of each.
torch::Tensor kept_by_definition(
    const torch::Tensor& experts,
    const torch::Tensor& scores,
    int64_t capacity,
    CapacityDrop drop) {
  auto kept = torch::zeros(experts.sizes(), torch::kBool);
  for (int64_t e = 0; e < scores.size(1); ++e) {
    std::vector<Row> line;
    for (int64_t t = 0; t < experts.size(0); ++t) {
      for (int64_t k = 0; k < experts.size(1); ++k) {
        if (experts[t][k].item<int64_t>() == e) {
          line.push_back({scores[t][e].item<double>(), t, k});
        }
      }
    }
    if (drop == CapacityDrop::score) {
      std::stable_sort(line.begin(), line.end(), [](const Row& a, const Row& b) {
        return a.score > b.score;
      });
    }
    for (int64_t i = 0; i < std::min<int64_t>(capacity, static_cast<int64_t>(line.size()));
         ++i) {
      kept[line[i].token][line[i].slot] = true;
    }
  }
  return kept;
}

} // namespace

TEST_CASE("expert_capacity: the even share times the factor, rounded up", "[layers]") {
  CHECK(expert_capacity(/*tokens=*/4, /*per_token=*/1, /*experts=*/2, 1.0) == 2);
  CHECK(expert_capacity(10, 2, 8, 1.0) == 3);
  CHECK(expert_capacity(10, 2, 8, 1.25) == 4);
  CHECK(expert_capacity(100, 1, 10, 1.1) == 11);
  CHECK(expert_capacity(100, 1, 10, 0.001) == 1);
  CHECK(expert_capacity(6, 2, 4, 100.0) == 6);
  CHECK(expert_capacity(0, 2, 4, 1.0) == 0);
}

TEST_CASE("keep_within_capacity: four tokens, two experts, room for two each", "[layers]") {
  const auto experts = torch::tensor({{0}, {0}, {1}, {0}});
  const auto scores = torch::tensor({{0.6, 0.4}, {0.7, 0.3}, {0.1, 0.9}, {0.8, 0.2}});
  CHECK(torch::equal(
      keep_within_capacity(experts, scores, 2, CapacityDrop::position),
      torch::tensor({{true}, {true}, {true}, {false}})));
  CHECK(torch::equal(
      keep_within_capacity(experts, scores, 2, CapacityDrop::score),
      torch::tensor({{false}, {true}, {true}, {true}})));
}

TEST_CASE("keep_within_capacity: as by lining up the rows of every expert", "[layers]") {
  torch::manual_seed(0);
  const auto drop = GENERATE(CapacityDrop::position, CapacityDrop::score);
  const auto capacity = GENERATE(as<int64_t>(), 1, 4, 9, 30);
  // With scores in steps of a quarter, many are equal.
  const auto scores = (torch::rand({30, 6}) * 4).floor() / 4;
  const auto experts = std::get<1>(torch::topk(torch::rand({30, 6}), 3, 1));
  const auto kept = keep_within_capacity(experts, scores, capacity, drop);
  CHECK(torch::equal(kept, kept_by_definition(experts, scores, capacity, drop)));
  CHECK(kept.all().item<bool>() == (capacity == 30));
}

TEST_CASE("keep_within_capacity: by position, later tokens change nothing", "[layers]") {
  torch::manual_seed(1);
  const auto scores = torch::rand({20, 4});
  auto experts = std::get<1>(torch::topk(scores, 2, 1));
  const auto kept = keep_within_capacity(experts, scores, 3, CapacityDrop::position);
  experts.slice(0, 10) = torch::tensor({0, 1});
  const auto changed = keep_within_capacity(experts, scores, 3, CapacityDrop::position);
  CHECK(torch::equal(kept.slice(0, 0, 10), changed.slice(0, 0, 10)));
}
