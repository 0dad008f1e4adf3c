#include "moe/training/routing_objective.h"

#include "moe/decoder/next_token_loss.h"
#include "moe/training/losses.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

namespace {

Routing softmax_routing(int64_t tokens, int64_t experts, int64_t chosen) {
  Routing routing;
  routing.logits = torch::randn({tokens, experts}, torch::kFloat64);
  routing.scores = routing.logits.softmax(1);
  std::tie(routing.weights, routing.experts) = routing.scores.topk(chosen);
  return routing;
}

DecoderOptions grouped_decoder() {
  auto options = learning_decoder();
  options.router.selection = RouterSelection::groups_by_max;
  options.router.groups = 4;
  options.router.groups_kept = 2;
  return options;
}

TrainerOptions with_all_losses() {
  auto options = quick_options();
  options.load_balancing_weight = 0.1;
  options.global_balancing_weight = 0.2;
  options.sequence_balancing_weight = 0.3;
  options.pooled_balancing_weight = 0.4;
  options.device_balancing_weight = 0.5;
  options.communication_balancing_weight = 0.6;
  options.importance_weight = 0.7;
  options.router_z_weight = 0.8;
  return options;
}

} // namespace

TEST_CASE("RoutingObjective: the weighted sum of the losses, each reported", "[training]") {
  torch::manual_seed(1);
  const std::vector<Routing> layers = {softmax_routing(12, 4, 2), softmax_routing(12, 4, 2)};
  auto options = with_all_losses();
  options.accumulation_steps = 2;
  const RoutingObjective objective(options, grouped_decoder());
  RoutingSums sums;
  CHECK(objective.looks_ahead());
  const RoutedBatch batch(layers, {}, /*batch_size=*/3);
  objective.look_ahead(batch, sums);
  objective.look_ahead(batch, sums);
  const auto loss = objective.loss(batch, sums);
  const auto mean = [&](const auto& function) {
    return (function(layers[0]) + function(layers[1])).template item<double>() / 2.0;
  };
  const double balance = mean([](const Routing& r) { return load_balancing_loss(r); });
  const double sequence = mean([](const Routing& r) { return sequence_balancing_loss(r, 3); });
  const double pooled = pooled_balancing_loss(layers).item<double>();
  const double device = mean([](const Routing& r) { return device_balancing_loss(r, 4); });
  const double communication =
      mean([](const Routing& r) { return communication_balancing_loss(r, 4, 2); });
  const double importance = mean([](const Routing& r) { return importance_loss(r); });
  const double z = mean([](const Routing& r) { return router_z_loss(r); });
  // One of two equal batches gives half of each.
  CHECK_THAT(
      2.0 * loss.item<double>(),
      WithinRel(
          0.3 * balance + 0.3 * sequence + 0.4 * pooled + 0.5 * device + 0.6 * communication +
              0.7 * importance + 0.8 * z,
          1e-12));
  objective.loss(batch, sums);
  CHECK_THAT(sums.counts[1], SameBits(2 * chosen_counts(layers[1])));
  StepMetrics metrics;
  sums.report(metrics);
  CHECK_THAT(metrics.load_balancing_loss.value(), WithinRel(balance, 1e-12));
  CHECK_THAT(metrics.router_z_loss.value(), WithinRel(z, 1e-12));
  const std::vector<std::pair<std::string, double>> expected = {
      {"global_balancing_loss", balance},
      {"sequence_balancing_loss", sequence},
      {"pooled_balancing_loss", pooled},
      {"device_balancing_loss", device},
      {"communication_balancing_loss", communication},
      {"importance_loss", importance}};
  REQUIRE(metrics.routing_losses.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(metrics.routing_losses[i].first == expected[i].first);
    CHECK_THAT(metrics.routing_losses[i].second, WithinRel(expected[i].second, 1e-12));
  }
}

TEST_CASE("RoutingObjective: a loss without a weight has no gradient", "[training]") {
  torch::manual_seed(2);
  auto options = quick_options();
  options.load_balancing_weight = 0.0;
  options.router_z_weight = GENERATE(0.0, 0.5);
  const RoutingObjective objective(options, learning_decoder());
  TopKRouter router(TopKRouterOptions(5, 4).initializer_range(1.0));
  const auto routing = router(torch::randn({12, 5}));
  RoutingSums sums;
  const auto loss = objective.loss(RoutedBatch({routing}, {}, 3), sums);
  CHECK(sums.losses.size() == 2);
  CHECK_THAT(sums.losses[0].second, AllClose(load_balancing_loss(routing)));
  CHECK_THAT(loss, AllClose(router_z_loss(routing) * options.router_z_weight));
  CHECK(loss.requires_grad() == (options.router_z_weight > 0.0));
}

TEST_CASE("RoutedBatch: padding is in no loss and no count", "[training]") {
  torch::manual_seed(3);
  const auto routing = softmax_routing(12, 4, 2);
  const auto mask = torch::tensor(
      {{true, true, true, false}, {true, false, false, false}, {true, true, true, true}});
  auto garbage = routing;
  garbage.scores = routing.scores.masked_fill(~mask.view({12, 1}), 1e30);
  garbage.logits = routing.logits.masked_fill(~mask.view({12, 1}), 1e30);
  garbage.weights = routing.weights.masked_fill(~mask.view({12, 1}), 1e30);
  garbage.experts = routing.experts.masked_fill(~mask.view({12, 1}), 3);
  const RoutingObjective objective(with_all_losses(), grouped_decoder());
  RoutingSums sums;
  RoutingSums garbage_sums;
  const auto loss = objective.loss(RoutedBatch({routing}, mask, 3), sums);
  const auto other = objective.loss(RoutedBatch({garbage}, mask, 3), garbage_sums);
  CHECK_THAT(other, SameBits(loss));
  CHECK_THAT(garbage_sums.counts[0], SameBits(sums.counts[0]));
  CHECK(sums.counts[0].sum().item<int64_t>() == 2 * 8);
}

TEST_CASE("RoutingObjective: devices that the experts cannot be split into", "[training]") {
  auto options = quick_options();
  options.balancing_devices = 3;
  CHECK_NOTHROW(RoutingObjective(options, learning_decoder()));
  options.device_balancing_weight = 0.1;
  CHECK_THROWS_WITH(
      RoutingObjective(options, learning_decoder()),
      ContainsSubstring("balancing_devices: 3 is not possible") &&
          ContainsSubstring("num_experts (4)"));
  options.balancing_devices = 0;
  CHECK_THROWS_WITH(
      RoutingObjective(options, learning_decoder()),
      ContainsSubstring("balancing_devices: 1 is not possible"));
  CHECK_NOTHROW(RoutingObjective(options, grouped_decoder()));
  auto uneven = grouped_decoder();
  uneven.layer_num_experts = {4, 3};
  CHECK_THROWS_WITH(RoutingObjective(options, uneven), ContainsSubstring("layer_num_experts"));
}

TEST_CASE("Trainer: the global balance is that of one big batch", "[training]") {
  const TrainingSetup setup;
  auto whole = quick_options();
  whole.batch_size = 8;
  whole.load_balancing_weight = 0.0;
  whole.global_balancing_weight = 2.0;
  whole.max_grad_norm = 0.0;
  whole.epsilon = 1.0; // AdamW's update is then nearly in proportion to the gradient
  auto parts = whole;
  parts.batch_size = 2;
  parts.accumulation_steps = 4;
  parts.recompute = GENERATE(false, true);
  auto model = learning_decoder();
  model.initializer_range = 0.3; // uneven from the start
  auto first = setup.trainer(model, whole);
  auto second = setup.trainer(model, parts);
  for (int i = 0; i < 3; ++i) {
    const auto a = first.step();
    const auto b = second.step();
    CHECK_THAT(b.loss, WithinRel(a.loss, 1e-5));
    CHECK_THAT(b.grad_norm, WithinRel(a.grad_norm, 1e-5));
    CHECK_THAT(b.routing_losses.at(0).second, WithinRel(a.routing_losses.at(0).second, 1e-5));
    CHECK(a.moe[1].load == b.moe[1].load);
  }
  const auto expected = first.model()->named_parameters();
  for (const auto& item : second.model()->named_parameters()) {
    CAPTURE(item.key());
    CHECK_THAT(item.value(), AllClose(expected[item.key()], 1e-5));
  }

  // The mean of the batches' own balances is another loss.
  parts.global_balancing_weight = 0.0;
  parts.load_balancing_weight = 2.0;
  auto mean_of_batches = setup.trainer(model, parts);
  auto again = setup.trainer(model, whole);
  CHECK(std::abs(mean_of_batches.step().grad_norm / again.step().grad_norm - 1.0) > 1e-3);
}

TEST_CASE("Trainer: the global balance is exact with noise, too", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.accumulation_steps = 3;
  options.global_balancing_weight = 2.0;
  options.recompute = GENERATE(false, true);
  auto decoder = learning_decoder();
  decoder.router.jitter = 0.9;
  decoder.initializer_range = 0.3;
  // All batches in one graph, in place of a look ahead.
  torch::manual_seed(options.seed);
  DecoderLM model(decoder);
  const auto data = setup.dataset();
  std::vector<DecoderOutput> outputs;
  torch::manual_seed(noise_seed(options.seed, 0));
  auto loss = torch::zeros({});
  for (int64_t i = 0; i < 3; ++i) {
    const auto batch = data.batch(i, options.batch_size, options.sequence_length);
    outputs.push_back(model->forward(batch.inputs));
    const auto& routing = outputs.back().routing;
    loss = loss + (next_token_loss(outputs.back().hidden, model->head_weight(), batch.targets) +
                   load_balancing_loss(routing) * options.load_balancing_weight +
                   router_z_loss(routing) * options.router_z_weight) /
                      3.0;
  }
  double expected_global = 0.0;
  for (size_t layer = 0; layer < 2; ++layer) {
    std::vector<torch::Tensor> scores;
    std::vector<torch::Tensor> experts;
    for (const auto& output : outputs) {
      scores.push_back(output.routing[layer].scores);
      experts.push_back(output.routing[layer].experts);
    }
    Routing whole;
    whole.scores = whole.logits = torch::cat(scores);
    whole.experts = torch::cat(experts);
    const auto global = load_balancing_loss(whole) / 2.0;
    loss = loss + global * options.global_balancing_weight;
    expected_global += global.item<double>();
  }
  loss.backward();
  const AdamW gradients(model->named_parameters().pairs(), {});

  auto trainer = setup.trainer(decoder, options);
  const auto metrics = trainer.step();
  CHECK_THAT(metrics.routing_losses.at(0).second, WithinRel(expected_global, 1e-6));
  CHECK_THAT(metrics.grad_norm, WithinRel(gradients.gradient_norm(), 1e-5));
}

TEST_CASE("Trainer: logits as scores are balanced by their softmax", "[training]") {
  const TrainingSetup setup;
  auto decoder = learning_decoder();
  decoder.initializer_range = 0.3;
  decoder.router.weighting = RouterWeighting::softmax;
  const auto balance = [&](RouterScore score) {
    decoder.router.score = score;
    auto trainer = setup.trainer(decoder, quick_options());
    return trainer.step().load_balancing_loss.value();
  };
  CHECK_THAT(balance(RouterScore::identity), WithinRel(balance(RouterScore::softmax), 1e-6));
}

TEST_CASE("Trainer: routing losses are in the metrics of their run only", "[training]") {
  const TrainingSetup setup;
  auto options = with_all_losses();
  auto trainer = setup.trainer(grouped_decoder(), options);
  CHECK(trainer.step().routing_losses.size() == 6);
  auto plain = setup.trainer(grouped_decoder(), quick_options());
  CHECK(plain.step().routing_losses.empty());
  auto dense = learning_decoder();
  dense.dense_layers = {0, 1};
  options.device_balancing_weight = 0.0;
  options.communication_balancing_weight = 0.0;
  auto without_experts = setup.trainer(dense, options);
  CHECK_FALSE(without_experts.step().load_balancing_loss.has_value());
}

TEST_CASE("Trainer: routers learn at a rate of their own", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.warmup_steps = 0;
  options.router_lr_ratio = 0.0;
  auto trainer = setup.trainer(learning_decoder(), options);
  StateDict before;
  for (const auto& item : trainer.model()->named_parameters()) {
    before.insert(item.key(), item.value().detach().clone());
  }
  trainer.step();
  for (const auto& item : trainer.model()->named_parameters()) {
    CAPTURE(item.key());
    const bool is_router = item.key().find(".router.") != std::string::npos;
    CHECK(torch::equal(item.value(), before[item.key()]) == is_router);
  }
}
