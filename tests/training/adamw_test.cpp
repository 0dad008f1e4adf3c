#include "moe/training/adamw.h"

#include <ATen/Parallel.h>
#include <torch/optim/adamw.h>

#include <cmath>

#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

torch::Tensor parameter(torch::IntArrayRef sizes) {
  return torch::randn(sizes).requires_grad_();
}

} // namespace

TEST_CASE("AdamW: equals LibTorch's, with decay on matrices only", "[training]") {
  torch::manual_seed(0);
  const auto matrix = parameter({37, 11});
  const auto vector = parameter({5});
  const auto matrix_copy = matrix.detach().clone().requires_grad_();
  const auto vector_copy = vector.detach().clone().requires_grad_();
  AdamW optimizer(
      {{"matrix", matrix}, {"vector", vector}}, {0.9, 0.95, 1e-8, /*weight_decay=*/0.1});
  const auto options = [](double decay) {
    auto result = std::make_unique<torch::optim::AdamWOptions>(1e-2);
    result->betas({0.9, 0.95}).weight_decay(decay);
    return result;
  };
  torch::optim::AdamW expected(std::vector<torch::optim::OptimizerParamGroup>{
      {{matrix_copy}, options(0.1)}, {{vector_copy}, options(0.0)}});
  for (int i = 0; i < 5; ++i) {
    for (const auto& [ours, theirs] :
         {std::pair{matrix, matrix_copy}, std::pair{vector, vector_copy}}) {
      const auto gradient = torch::randn_like(ours);
      ours.mutable_grad() = gradient;
      theirs.mutable_grad() = gradient * 0.5;
    }
    optimizer.step(1e-2, /*gradient_scale=*/0.5);
    expected.step();
    CHECK_THAT(matrix, AllClose(matrix_copy, 1e-6));
    CHECK_THAT(vector, AllClose(vector_copy, 1e-6));
  }
}

TEST_CASE("AdamW: parameter groups learn by their own rate and decay", "[training]") {
  torch::manual_seed(4);
  const auto router = parameter({4, 6});
  const auto expert = parameter({6, 3});
  const auto router_copy = router.detach().clone().requires_grad_();
  const auto expert_copy = expert.detach().clone().requires_grad_();
  AdamW optimizer(
      {{"router", router}, {"expert", expert}},
      {.weight_decay = 0.1},
      /*trainable=*/{},
      {{"router", {.lr_ratio = 0.25, .weight_decay_ratio = 3.0}}});
  AdamW router_alone({{"router", router_copy}}, {.weight_decay = 0.3});
  AdamW expert_alone({{"expert", expert_copy}}, {.weight_decay = 0.1});
  for (int i = 0; i < 3; ++i) {
    router.mutable_grad() = torch::randn_like(router);
    expert.mutable_grad() = torch::randn_like(expert);
    router_copy.mutable_grad() = router.grad();
    expert_copy.mutable_grad() = expert.grad();
    optimizer.step(1e-2);
    router_alone.step(0.25e-2);
    expert_alone.step(1e-2);
  }
  CHECK_THAT(router, AllClose(router_copy, 1e-6));
  CHECK_THAT(expert, SameBits(expert_copy));
  CHECK_THROWS_WITH(
      AdamW({{"router", router}}, {}, {}, {{"other", {}}}), ContainsSubstring("not there"));
}

TEST_CASE("AdamW: the kernel equals the tensor operations", "[training]") {
  torch::manual_seed(1);
  const auto fast = parameter({1000, 77});
  // A transposed matrix is not contiguous, so it takes the operations.
  const auto slow = fast.detach().clone().t().contiguous().t().requires_grad_();
  REQUIRE_FALSE(slow.is_contiguous());
  AdamW first({{"w", fast}}, {});
  AdamW second({{"w", slow}}, {});
  for (int i = 0; i < 3; ++i) {
    const auto gradient = torch::randn_like(fast);
    fast.mutable_grad() = gradient;
    slow.mutable_grad() = gradient;
    first.step(1e-2);
    second.step(1e-2);
  }
  CHECK_THAT(fast, AllClose(slow, 1e-6));
}

TEST_CASE("AdamW: the gradient norm is that of all gradients together", "[training]") {
  torch::manual_seed(2);
  const auto a = parameter({70000});
  const auto b = parameter({3, 5});
  const auto without = parameter({4});
  AdamW optimizer({{"a", a}, {"b", b}, {"without", without}}, {});
  a.mutable_grad() = torch::randn({70000});
  b.mutable_grad() = torch::randn({3, 5});
  const double expected = std::sqrt(
      a.grad().to(torch::kFloat64).square().sum().item<double>() +
      b.grad().to(torch::kFloat64).square().sum().item<double>());
  CHECK_THAT(optimizer.gradient_norm(), WithinRel(expected, 1e-12));
  const auto before = without.detach().clone();
  optimizer.step(1.0);
  CHECK_THAT(without, SameBits(before));
  optimizer.clear_gradients();
  CHECK_FALSE(a.grad().defined());
}

TEST_CASE("AdamW: the same bits for any number of threads", "[training][threads]") {
  const auto run = [](int threads) {
    at::set_num_threads(threads);
    torch::manual_seed(3);
    const auto w = parameter({300, 501});
    AdamW optimizer({{"w", w}}, {});
    w.mutable_grad() = torch::randn({300, 501});
    const double norm = optimizer.gradient_norm();
    optimizer.step(1e-2, 1.0 / norm);
    at::set_num_threads(1);
    return std::pair(norm, w.detach());
  };
  const auto [norm, weights] = run(1);
  for (const int threads : {2, 3}) {
    const auto [other_norm, other_weights] = run(threads);
    CHECK(other_norm == norm);
    CHECK_THAT(other_weights, SameBits(weights));
  }
}

TEST_CASE("AdamW: rows that do not learn are never touched", "[training]") {
  torch::manual_seed(5);
  const auto weight = parameter({6, 3});
  const auto frozen = parameter({4});
  const auto before = weight.detach().clone();
  const auto frozen_before = frozen.detach().clone();
  AdamW optimizer(
      {{"weight", weight}, {"frozen", frozen}},
      {.weight_decay = 0.1},
      {{"weight", {{1, 2}, {4, 6}}}, {"frozen", {}}});
  weight.mutable_grad() = torch::randn({6, 3});
  frozen.mutable_grad() = torch::randn({4});
  const auto learning = torch::tensor({1, 4, 5});
  const auto resting = torch::tensor({0, 2, 3});
  CHECK_THAT(
      optimizer.gradient_norm(),
      WithinRel(weight.grad().index_select(0, learning).norm().item<double>(), 1e-6));
  optimizer.step(1e-2);
  CHECK(torch::equal(frozen, frozen_before));
  CHECK(torch::equal(weight.index_select(0, resting), before.index_select(0, resting)));
  CHECK((weight.detach() != before).index_select(0, learning).all().item<bool>());
  CHECK(optimizer.slots()[0].exp_avg.index_select(0, resting).count_nonzero().item<int>() == 0);
  CHECK(optimizer.slots()[1].exp_avg_sq.count_nonzero().item<int>() == 0);

  // The rows that learn do so as they would by themselves.
  const auto alone = before.index_select(0, learning).requires_grad_();
  alone.mutable_grad() = weight.grad().index_select(0, learning);
  AdamW reference({{"alone", alone}}, {.weight_decay = 0.1});
  reference.step(1e-2);
  CHECK(torch::equal(weight.index_select(0, learning), alone));
}

TEST_CASE("AdamW: rows that are not there are refused", "[training]") {
  const auto weight = parameter({6, 3});
  const auto make = [&](const TrainableRows& rows) { AdamW({{"weight", weight}}, {}, rows); };
  CHECK_THROWS_WITH(make({{"weight", {{5, 7}}}}), ContainsSubstring("which has 6"));
  CHECK_THROWS_WITH(make({{"weight", {{2, 4}, {3, 5}}}}), ContainsSubstring("after row 3"));
  CHECK_THROWS_WITH(make({{"other", {}}}), ContainsSubstring("not there"));
}

TEST_CASE("AdamW: a graph is not differentiated with weights that have changed", "[training]") {
  torch::manual_seed(6);
  const auto weight = parameter({6, 3});
  AdamW optimizer({{"weight", weight}}, {}, {{"weight", {{1, 2}, {4, 6}}}});
  const auto loss = weight.square().sum();
  loss.backward({}, /*retain_graph=*/true);
  optimizer.step(1e-2);
  CHECK_THROWS_WITH(loss.backward(), ContainsSubstring("modified by an inplace operation"));
}

TEST_CASE("AdamW: impossible options and sparse gradients are refused", "[training]") {
  const auto weight = parameter({6, 3});
  const auto make = [&](const AdamWOptions& options) { AdamW({{"weight", weight}}, options); };
  CHECK_THROWS_WITH(make({.beta1 = 2.0}), ContainsSubstring("beta1: 2 is not possible"));
  CHECK_THROWS_WITH(make({.beta2 = 1.0}), ContainsSubstring("beta2: 1 is not possible"));
  CHECK_THROWS_WITH(make({.beta1 = std::nan("")}), ContainsSubstring("beta1: nan"));
  CHECK_THROWS_WITH(make({.epsilon = -1.0}), ContainsSubstring("epsilon: -1"));
  CHECK_THROWS_WITH(make({.weight_decay = -0.1}), ContainsSubstring("weight_decay: -0.1"));
  AdamW optimizer({{"weight", weight}}, {});
  weight.mutable_grad() = torch::ones({6, 3}).to_sparse();
  const auto named = ContainsSubstring("gradient of weight is Sparse");
  CHECK_THROWS_WITH(optimizer.gradient_norm(), named);
  CHECK_THROWS_WITH(optimizer.step(1e-2), named);
  CHECK(optimizer.steps == 0);
}
