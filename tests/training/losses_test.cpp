#include "moe/training/losses.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "moe/checkpoint/state_dict.h"
#include "moe/layers/top_k_router.h"
#include "tests/support/gradient_check.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// A routing by hand: scores [T, E] and the experts that the tokens went to.
Routing routing_of(const torch::Tensor& scores, const torch::Tensor& experts) {
  return {scores.log(), scores, experts, torch::ones_like(experts, torch::kFloat32)};
}

/// The experts with the highest of `scores` [T, E].
Routing random_routing(const torch::Tensor& scores, int64_t chosen) {
  return routing_of(scores, std::get<1>(scores.detach().topk(chosen)));
}

} // namespace

TEST_CASE("routing losses: their values at perfect balance and for one expert", "[training]") {
  const int64_t chosen = GENERATE(1, 2, 4);
  const auto uniform = torch::full({8, 4}, 0.25);
  // Expert e, e + 1, ... for token e: every expert gets 8 · K / 4 rows.
  const auto even =
      routing_of(uniform, (torch::arange(8).unsqueeze(1) + torch::arange(chosen)).remainder(4));
  const auto all = torch::tensor({{1.0, 0.0, 0.0, 0.0}}).repeat({8, 1});
  const auto collapsed = routing_of(all, torch::zeros({8, 1}, torch::kInt64));
  const auto is = [](const torch::Tensor& loss, double expected) {
    CHECK_THAT(loss.item<double>(), WithinAbs(expected, 1e-6));
  };
  is(load_balancing_loss(even), 1.0);
  is(load_balancing_loss(collapsed), 4.0);
  is(sequence_balancing_loss(even, 2), 1.0);
  is(sequence_balancing_loss(collapsed, 2), 4.0);
  is(pooled_balancing_loss({even, even}), static_cast<double>(chosen));
  is(pooled_balancing_loss({collapsed, collapsed}), 4.0);
  is(importance_loss(even), 0.0);
  is(importance_loss(collapsed), 3.0);
  is(device_balancing_loss(even, 2), 1.0);
  is(device_balancing_loss(collapsed, 2), 2.0);
  // With K = 1 a token goes to one device; with K = 4 to both.
  if (chosen != 2) {
    is(communication_balancing_loss(even, 2, std::min<int64_t>(chosen, 2)), 1.0);
  }
  is(communication_balancing_loss(collapsed, 2, 1), 2.0);
}

TEST_CASE("routing losses: without tokens they are 0", "[training]") {
  const auto none = random_routing(torch::zeros({0, 4}), 2);
  for (const auto& loss :
       {load_balancing_loss(none),
        pooled_balancing_loss({none, none}),
        importance_loss(none),
        device_balancing_loss(none, 2),
        communication_balancing_loss(none, 2, 1),
        router_z_loss(none)}) {
    CHECK(loss.item<double>() == 0.0);
  }
}

TEST_CASE("load_balancing_loss: by hand", "[training]") {
  const auto scores = torch::tensor({{0.7, 0.2, 0.1}, {0.5, 0.4, 0.1}});
  const auto experts = torch::tensor({{0, 1}, {0, 2}}, torch::kInt64);
  // Shares of rows 2/4, 1/4, 1/4; mean scores 0.6, 0.3, 0.1.
  const double expected = 3.0 * (0.5 * 0.6 + 0.25 * 0.3 + 0.25 * 0.1);
  const auto routing = routing_of(scores, experts);
  CHECK_THAT(load_balancing_loss(routing).item<double>(), WithinAbs(expected, 1e-6));
  const auto other = routing_of(torch::full({2, 3}, 1.0 / 3), experts);
  CHECK_THAT(
      load_balancing_loss(std::vector<Routing>{routing, other}).item<double>(),
      WithinAbs((expected + 1.0) / 2.0, 1e-6));
  CHECK_FALSE(load_balancing_loss(std::vector<Routing>{}).defined());
}

TEST_CASE("router_z_loss: by hand", "[training]") {
  Routing routing;
  routing.logits = torch::tensor({{0.0, 0.0}, {3.0, 3.0}}, torch::kFloat64);
  const double log2 = std::log(2.0);
  const double expected = (log2 * log2 + (3.0 + log2) * (3.0 + log2)) / 2.0;
  CHECK_THAT(router_z_loss(routing).item<double>(), WithinAbs(expected, 1e-12));
}

TEST_CASE("balancing losses: scores of any kind count by their share", "[training]") {
  const auto shares = torch::tensor({{0.7, 0.2, 0.1}, {0.5, 0.4, 0.1}});
  const auto experts = torch::tensor({{0, 1}, {0, 2}}, torch::kInt64);
  const auto expected = routing_of(shares, experts);
  const auto sigmoid = routing_of(shares * torch::tensor({{1.2}, {0.3}}), experts);
  CHECK_THAT(load_balancing_loss(sigmoid), AllClose(load_balancing_loss(expected)));
  CHECK_THAT(
      sequence_balancing_loss(sigmoid, 2), AllClose(sequence_balancing_loss(expected, 2)));
  CHECK_THAT(pooled_balancing_loss({sigmoid}), AllClose(pooled_balancing_loss({expected})));
  // Sigmoids that are 0 in float32 have no share, and no effect.
  const auto none = routing_of(torch::zeros({2, 3}), experts);
  CHECK(load_balancing_loss(none).item<double>() == 0.0);
}

TEST_CASE(
    "load_balancing_loss: parts with the counts of the whole add up to it", "[training]") {
  torch::manual_seed(3);
  const auto scores = torch::rand({10, 6}, torch::kFloat64).requires_grad_();
  const auto whole = random_routing(scores, 2);
  const auto counts = chosen_counts(whole);
  torch::Tensor sum = torch::zeros({}, torch::kFloat64);
  for (const auto& positions : {torch::arange(0, 3), torch::arange(3, 10)}) {
    const double share = static_cast<double>(positions.size(0)) / 10.0;
    sum = sum + load_balancing_loss(select_tokens(whole, positions), counts) * share;
  }
  const auto expected = load_balancing_loss(whole);
  CHECK_THAT(sum, AllClose(expected, 1e-12));
  const auto gradient = torch::autograd::grad({sum}, {scores})[0];
  CHECK_THAT(gradient, AllClose(torch::autograd::grad({expected}, {scores})[0], 1e-12));
}

TEST_CASE("pooled_balancing_loss: equals the mean over all layers' tokens", "[training]") {
  torch::manual_seed(4);
  const std::vector<Routing> layers = {
      random_routing(torch::rand({7, 5}, torch::kFloat64), 2),
      random_routing(torch::rand({7, 5}, torch::kFloat64), 2),
      random_routing(torch::rand({7, 5}, torch::kFloat64), 2)};
  // As load_balancing_loss_func writes it: a mean for each choice j and expert e.
  double expected = 0.0;
  for (int64_t choice = 0; choice < 2; ++choice) {
    for (int64_t expert = 0; expert < 5; ++expert) {
      double chosen = 0.0;
      double share = 0.0;
      for (const auto& routing : layers) {
        for (int64_t token = 0; token < 7; ++token) {
          chosen += routing.experts[token][choice].item<int64_t>() == expert ? 1.0 : 0.0;
          share += (routing.scores[token][expert] / routing.scores[token].sum()).item<double>();
        }
      }
      expected += (chosen / 21.0) * (share / 21.0);
    }
  }
  CHECK_THAT(pooled_balancing_loss(layers).item<double>(), WithinRel(5.0 * expected, 1e-12));
  CHECK_FALSE(pooled_balancing_loss({}).defined());
}

TEST_CASE("sequence_balancing_loss: the mean over sequences, padding left out", "[training]") {
  torch::manual_seed(5);
  const auto routing = random_routing(torch::rand({15, 6}, torch::kFloat64), 2);
  const auto sequence = [&](int64_t index, int64_t length) {
    const auto positions = torch::arange(index * 5, index * 5 + length);
    return load_balancing_loss(select_tokens(routing, positions));
  };
  const auto expected = (sequence(0, 5) + sequence(1, 5) + sequence(2, 5)) / 3.0;
  CHECK_THAT(sequence_balancing_loss(routing, 3), AllClose(expected, 1e-12));
  const auto mask = torch::tensor(
      {{true, true, true, false, false},
       {true, true, true, true, true},
       {false, false, false, false, false}});
  const auto masked = (sequence(0, 3) + sequence(1, 5)) / 2.0;
  CHECK_THAT(sequence_balancing_loss(routing, 3, mask), AllClose(masked, 1e-12));
  CHECK_THROWS_WITH(
      sequence_balancing_loss(routing, 4), ContainsSubstring("15 tokens are not 4 sequences"));
}

TEST_CASE("importance_loss: by hand", "[training]") {
  auto routing = routing_of(
      torch::full({3, 3}, 1.0 / 3), torch::tensor({{0, 1}, {0, 2}, {1, 0}}, torch::kInt64));
  routing.weights = torch::tensor({{0.75, 0.25}, {0.5, 0.5}, {1.0, 0.0}});
  // Sums of weights 1.25, 1.25, 0.5 with a mean of 1.
  const double expected = (0.25 * 0.25 + 0.25 * 0.25 + 0.5 * 0.5) / 3.0;
  CHECK_THAT(importance_loss(routing).item<double>(), WithinAbs(expected, 1e-6));
}

TEST_CASE("device losses: equal their formulas, token by token", "[training]") {
  torch::manual_seed(6);
  const auto routing = random_routing(torch::rand({9, 6}, torch::kFloat64), 3);
  const int64_t devices = GENERATE(1, 2, 3, 6);
  const int64_t per_device = 6 / devices;
  double device_loss = 0.0;
  double communication_loss = 0.0;
  for (int64_t device = 0; device < devices; ++device) {
    double rows = 0.0;
    double sent = 0.0;
    double share = 0.0;
    for (int64_t token = 0; token < 9; ++token) {
      int64_t here = 0;
      for (int64_t choice = 0; choice < 3; ++choice) {
        const auto expert = routing.experts[token][choice].item<int64_t>();
        here += expert / per_device == device ? 1 : 0;
      }
      rows += static_cast<double>(here);
      sent += here > 0 ? 1.0 : 0.0;
      for (int64_t expert = device * per_device; expert < (device + 1) * per_device; ++expert) {
        share += (routing.scores[token][expert] / routing.scores[token].sum()).item<double>();
      }
    }
    // The mean over the device's experts of E / (K · T) times their rows.
    const double load = 6.0 / (3.0 * 9.0) * rows / static_cast<double>(per_device);
    device_loss += load * share / 9.0;
    communication_loss += static_cast<double>(devices) / (2.0 * 9.0) * sent * share / 9.0;
  }
  CHECK_THAT(
      device_balancing_loss(routing, devices).item<double>(), WithinRel(device_loss, 1e-12));
  CHECK_THAT(
      communication_balancing_loss(routing, devices, 2).item<double>(),
      WithinRel(communication_loss, 1e-12));
  CHECK_THROWS_WITH(
      device_balancing_loss(routing, 4),
      ContainsSubstring("num_devices (4) must divide the 6"));
}

TEST_CASE("balancing losses: what was chosen counts, whether it is kept or not", "[training]") {
  torch::manual_seed(8);
  const auto plain = random_routing(torch::rand({8, 6}, torch::kFloat64), 2);
  // The same choice as a part of a longer list, as it is where experts choose.
  auto listed = plain;
  listed.experts = torch::arange(6).repeat({8, 1});
  listed.chosen = torch::zeros({8, 6}, torch::kBool).scatter_(1, plain.experts, true);
  listed.weights = listed.chosen.to(torch::kFloat64);
  listed.kept = listed.chosen & (torch::rand({8, 6}) < 0.5);
  CHECK_THAT(load_balancing_loss(listed), AllClose(load_balancing_loss(plain), 1e-12));
  CHECK_THAT(
      sequence_balancing_loss(listed, 2), AllClose(sequence_balancing_loss(plain, 2), 1e-12));
  CHECK_THAT(pooled_balancing_loss({listed}), AllClose(pooled_balancing_loss({plain}), 1e-12));
  CHECK_THAT(
      device_balancing_loss(listed, 3), AllClose(device_balancing_loss(plain, 3), 1e-12));
  CHECK_THAT(
      communication_balancing_loss(listed, 3, 2),
      AllClose(communication_balancing_loss(plain, 3, 2), 1e-12));
}

TEST_CASE("routing losses: gradients agree with central differences", "[training]") {
  torch::manual_seed(0);
  const auto score = GENERATE(RouterScore::softmax, RouterScore::sigmoid);
  TopKRouter router(TopKRouterOptions(5, 6).experts_per_token(2).initializer_range(1.0).form(
      {.score = score}));
  router->to(torch::kFloat64);
  const auto input = torch::randn({9, 5}, torch::kFloat64).requires_grad_();
  const auto function = [&] {
    const auto routing = router(input);
    return load_balancing_loss(routing) + router_z_loss(routing) +
           2.0 * pooled_balancing_loss({routing, routing}) +
           3.0 * sequence_balancing_loss(routing, 3) + 0.5 * importance_loss(routing) +
           4.0 * device_balancing_loss(routing, 3) +
           5.0 * communication_balancing_loss(routing, 3, 2);
  };
  CHECK(gradient_error(function, {input, router->weight}) < 1e-6);
}

TEST_CASE("expert_counts: counts rows, of the tokens asked for", "[training]") {
  Routing routing;
  routing.logits = torch::zeros({3, 4});
  routing.experts = torch::tensor({{0, 1}, {1, 3}, {1, 0}}, torch::kInt64);
  CHECK(torch::equal(expert_counts(routing), torch::tensor({2, 3, 0, 1}, torch::kInt64)));
  const auto mask = torch::tensor({true, false, true});
  CHECK(torch::equal(expert_counts(routing, mask), torch::tensor({2, 2, 0, 0}, torch::kInt64)));
}

// For compare_losses.py.
TEST_CASE("routing losses for a comparison", "[.routing_losses]") {
  torch::manual_seed(7);
  const char* path = std::getenv("MOE_LOSSES_FILE");
  REQUIRE(path != nullptr);
  StateDict tensors;
  std::vector<Routing> layers;
  const auto mask = torch::rand({4, 6}) < 0.7;
  std::vector<Routing> masked_layers;
  for (int64_t layer = 0; layer < 3; ++layer) {
    TopKRouter router(TopKRouterOptions(16, 10).experts_per_token(3).initializer_range(0.5));
    layers.push_back(router(torch::randn({24, 16})));
    masked_layers.push_back(select_tokens(layers.back(), mask.flatten().nonzero().squeeze(1)));
    tensors.insert("logits." + std::to_string(layer), layers.back().logits.detach());
  }
  tensors.insert("mask", mask.to(torch::kInt64));
  tensors.insert("pooled", pooled_balancing_loss(layers).detach().view({1}));
  tensors.insert("masked", pooled_balancing_loss(masked_layers).detach().view({1}));
  write_state_dict(tensors, path);
}
