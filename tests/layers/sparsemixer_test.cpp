#include "moe/layers/sparsemixer.h"

#include <algorithm>
#include <cmath>
#include <tuple>
#include <vector>

#include "moe/libtorch.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

constexpr double kJitter = 0.1;

/// The softmax of one token's logits among those within 2 · jitter of the best that is left.
std::vector<double> shares(const std::vector<double>& logits, int64_t without) {
  double best = -INFINITY;
  for (size_t e = 0; e < logits.size(); ++e) {
    best = static_cast<int64_t>(e) == without ? best : std::max(best, logits[e]);
  }
  std::vector<double> result(logits.size(), 0.0);
  double sum = 0.0;
  for (size_t e = 0; e < logits.size(); ++e) {
    const double distance = (best - logits[e]) / std::max(std::abs(logits[e]), best);
    if (static_cast<int64_t>(e) != without && distance <= 2 * kJitter) {
      sum += result[e] = std::exp(logits[e]);
    }
  }
  for (double& share : result) {
    share /= sum;
  }
  return result;
}

int64_t index_of_largest(const std::vector<double>& values) {
  return std::max_element(values.begin(), values.end()) - values.begin();
}

} // namespace

TEST_CASE("sparsemixer: in training, experts are drawn by their shares", "[layers]") {
  torch::manual_seed(0);
  const std::vector<double> logits{2.0, 1.7, 1.9, -1.0};
  constexpr int64_t draws = 20000;
  const auto choice =
      sparsemixer(torch::tensor(logits).repeat({draws, 1}), kJitter, /*training=*/true);
  const auto first = shares(logits, -1);
  const auto counts = torch::bincount(choice.experts.select(1, 0), {}, 4).to(torch::kFloat64);
  CHECK_THAT(counts / draws, AllClose(torch::tensor(first, torch::kFloat64), 0.02));
  int64_t thirds = 0;
  int64_t others = 0;
  for (int64_t t = 0; t < 2000; ++t) {
    const auto one = choice.experts[t][0].item<int64_t>();
    const auto two = choice.experts[t][1].item<int64_t>();
    const auto second = shares(logits, one);
    REQUIRE(one != two);
    REQUIRE(first[one] > 0.0);
    REQUIRE(second[two] > 0.0);
    for (const auto& [expert, all, slot] :
         {std::tuple{one, first, 0}, std::tuple{two, second, 1}}) {
      const double ratio = choice.weights[t][slot].item<double>() / all[expert];
      const bool is_best = expert == index_of_largest(all);
      const bool is_third = std::abs(ratio - 1.0 / 3.0) < 1e-5;
      REQUIRE((is_third || std::abs(ratio - 1.0) < 1e-5));
      REQUIRE((!is_best || !is_third));
      others += is_best ? 0 : 1;
      thirds += is_third ? 1 : 0;
    }
  }
  // What is not the best has a third of its weight in three cases of four.
  CHECK_THAT(static_cast<double>(thirds) / static_cast<double>(others), WithinAbs(0.75, 0.05));
}

TEST_CASE("sparsemixer: in training, the gradient is that of the shares", "[layers]") {
  const auto logits = (torch::rand({6, 5}, torch::kFloat64) * 0.2 + 1.0).requires_grad_();
  const auto factors = torch::rand({6, 2}, torch::kFloat64);
  torch::manual_seed(4);
  const auto choice = sparsemixer(logits, kJitter, /*training=*/true);
  (choice.weights * factors).sum().backward();
  const auto gradient = logits.grad().clone();
  // All five are near each other, so the shares are a softmax with and without the first.
  const auto expected = [&] {
    const auto first = choice.experts.slice(1, 0, 1);
    const auto one = torch::softmax(logits, -1).gather(1, first);
    const auto two = torch::softmax(logits.scatter(1, first, -INFINITY), -1)
                         .gather(1, choice.experts.slice(1, 1, 2));
    return (torch::cat({one, two}, 1) * factors).sum();
  };
  CHECK(gradient_error(expected, {logits}) < 1e-6);
  CHECK_THAT(logits.grad(), AllClose(gradient, 1e-9));
}

TEST_CASE("sparsemixer: without training the best two, whatever the generator", "[layers]") {
  torch::manual_seed(5);
  const auto logits = torch::randn({30, 6});
  const auto choice = sparsemixer(logits, kJitter, /*training=*/false);
  CHECK(torch::equal(choice.experts, std::get<1>(torch::topk(logits, 2, 1))));
  CHECK_THAT(sparsemixer(logits, kJitter, false).weights, SameBits(choice.weights));
}
