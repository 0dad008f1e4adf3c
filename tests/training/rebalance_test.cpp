#include "moe/training/rebalance.h"

#include <map>
#include <random>

#include "moe/evaluation/collapse_monitor.h"
#include "moe/evaluation/evaluator.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

namespace {

constexpr int64_t kWidth = 16;

/// Tokens of a few kinds, [T, D] with a constant part, as there is behind a norm.
torch::Tensor clustered_inputs(int64_t tokens) {
  const auto kinds = torch::randn({12, kWidth}) * 1.5;
  const auto kind = torch::randint(12, {tokens});
  auto inputs = kinds.index_select(0, kind) + torch::randn({tokens, kWidth}) * 0.3;
  inputs.select(1, 0).fill_(1.0);
  return inputs;
}

/// Experts 1 and 4 of 6 are never chosen.
SparseMoEBlock collapsed_block(const TopKRouterOptions& router) {
  SparseMoEBlock block(SparseMoEBlockOptions(kWidth, 6)
                           .experts_per_token(2)
                           .expert_dim(12)
                           .router(router)
                           .initializer_range(0.3));
  const torch::NoGradGuard no_grad;
  for (const int64_t dead : {1, 4}) {
    block->router->weight[dead].zero_();
    block->router->weight[dead][0] = -30.0;
  }
  return block;
}

TopKRouterOptions usual_router() {
  return TopKRouterOptions(kWidth, 6).experts_per_token(2).initializer_range(0.3);
}

/// An optimizer whose moments are numbers that tell the experts apart.
AdamW optimizer_of(const SparseMoEBlock& block) {
  std::vector<std::pair<std::string, torch::Tensor>> parameters;
  for (const auto& entry : block->named_parameters()) {
    parameters.emplace_back("layers.3.moe." + entry.key(), entry.value());
  }
  AdamW optimizer(parameters, {});
  for (const auto& slot : optimizer.slots()) {
    for (int64_t i = 0; i < slot.exp_avg.size(0); ++i) {
      slot.exp_avg[i].fill_(i + 1);
      slot.exp_avg_sq[i].fill_(10 * (i + 1));
    }
  }
  return optimizer;
}

double relative_change(const torch::Tensor& after, const torch::Tensor& before) {
  return ((after - before).square().sum() / before.square().sum()).item<double>();
}

} // namespace

TEST_CASE("revive_experts: shares the load and keeps the function", "[training]") {
  torch::manual_seed(4);
  auto options = usual_router();
  SECTION("softmax") {}
  SECTION("softmax of all") {
    options.form().normalize_weights = false;
  }
  SECTION("sigmoid") {
    options.form().score = RouterScore::sigmoid;
  }
  SECTION("with bias") {
    options.form().bias = true;
  }
  SECTION("one of all") {
    options.experts_per_token(1);
  }
  const auto inputs = clustered_inputs(3000);
  const auto other_inputs = inputs.slice(0, 2000);
  auto block = collapsed_block(options);
  auto optimizer = optimizer_of(block);
  const torch::NoGradGuard no_grad;
  const auto before = block->forward_with_routing(other_inputs);
  const auto counts = counts_on_host(expert_counts(before.routing));
  REQUIRE(counts[1] + counts[4] == 0);

  const auto revival =
      revive_experts(block, optimizer, 3, {1, 4}, inputs.slice(0, 0, 2000), /*seed=*/7);

  CHECK(revival.layer == 3);
  CHECK(revival.experts == std::vector<int64_t>{1, 4});
  const auto after = block->forward_with_routing(other_inputs);
  const auto shared = counts_on_host(expert_counts(after.routing));
  const double mean = 1000.0 * static_cast<double>(options.experts_per_token()) / 6.0;
  CAPTURE(counts, shared);
  CHECK(shared[1] > 0.3 * mean);
  CHECK(shared[4] > 0.3 * mean);
  const double change = relative_change(after.output, before.output);
  // What copies with the rows of their donors would do.
  for (size_t i = 0; i < 2; ++i) {
    const int64_t donor = revival.donors[i];
    block->router->weight[revival.experts[i]].copy_(block->router->weight[donor]);
  }
  const double naive = relative_change(block->forward(other_inputs), before.output);
  CAPTURE(naive);
  CHECK(change < 0.1);
}

TEST_CASE("revive_experts: what belongs to an expert is copied or split", "[training]") {
  torch::manual_seed(5);
  const auto inputs = clustered_inputs(2000);
  auto block = collapsed_block(usual_router().form({.selection_bias = true}));
  block->router->selection_bias.copy_(torch::arange(6) * 0.001);
  auto optimizer = optimizer_of(block);
  const auto before = std::dynamic_pointer_cast<SparseMoEBlockImpl>(block->clone());
  const auto revival = revive_experts(block, optimizer, 3, {1}, inputs, /*seed=*/7);
  const int64_t donor = revival.donors.at(0);
  const torch::NoGradGuard no_grad;

  const auto copied = before->down_proj[donor];
  CHECK_THAT(block->down_proj[donor], SameBits(copied));
  const auto noise = block->down_proj[1] - copied;
  const double ratio = (noise.square().mean() / copied.square().mean()).sqrt().item<double>();
  CHECK(ratio > 0.005);
  CHECK(ratio < 0.02);
  CHECK(
      block->router->selection_bias[1].item<float>() ==
      block->router->selection_bias[donor].item<float>());
  for (int64_t other = 0; other < 6; ++other) {
    if (other != 1 && other != donor) {
      CHECK_THAT(block->router->weight[other], SameBits(before->router->weight[other]));
      CHECK_THAT(block->gate_up_proj[other], SameBits(before->gate_up_proj[other]));
    }
  }
  CHECK(optimizer.slots().size() == 3);
  for (const auto& slot : optimizer.slots()) {
    for (int64_t i = 0; i < 6; ++i) {
      const bool is_half = i == 1 || i == donor;
      const double source = static_cast<double>(i == 1 ? donor : i) + 1.0;
      CAPTURE(slot.name, i, donor);
      CHECK(slot.exp_avg[i].min().item<double>() == source * (is_half ? 0.5 : 1.0));
      CHECK(slot.exp_avg[i].max().item<double>() == source * (is_half ? 0.5 : 1.0));
      CHECK(slot.exp_avg_sq[i].min().item<double>() == 10 * source * (is_half ? 0.25 : 1.0));
    }
  }
}

TEST_CASE("revive_experts: a function of the seed", "[training]") {
  torch::manual_seed(6);
  const auto inputs = clustered_inputs(2000);
  const auto block = collapsed_block(usual_router());
  const auto revived = [&](uint64_t seed) {
    SparseMoEBlock copy(std::dynamic_pointer_cast<SparseMoEBlockImpl>(block->clone()));
    auto optimizer = optimizer_of(copy);
    revive_experts(copy, optimizer, 3, {1, 4}, inputs, seed);
    return torch::cat({copy->router->weight.flatten(), copy->down_proj.flatten()}).detach();
  };
  CHECK_THAT(revived(1), SameBits(revived(1)));
  CHECK_FALSE(torch::equal(revived(1), revived(2)));
}

TEST_CASE("Trainer: a collapse is caught, repaired, and stays repaired", "[training]") {
  const TrainingSetup setup;
  std::mt19937 random(3);
  std::vector<int32_t> ids = {0};
  while (ids.size() < 20000) {
    ids.push_back((ids.back() * 3 + static_cast<int32_t>(random() % 5)) % 22);
  }
  const auto text = token_file(setup.folder.path() / "chain.tokens", ids, 23);
  auto model = learning_decoder();
  model.num_experts = 16;
  model.experts_per_token = 1;
  auto options = quick_options();
  options.steps = 400;
  options.batch_size = 8;
  options.sequence_length = 32;
  options.load_balancing_weight = 0.0;
  options.router_z_weight = 0.0;
  options.router_lr_ratio = 30.0;
  torch::manual_seed(1);
  Trainer trainer(DecoderLM(model), TokenDataset({{"text", text}}, {}, /*seed=*/0), options);
  const auto held_out_loss = [&] {
    return evaluate(trainer.model(), {{"text", EvaluationWindows(text, 0, 8, 32, 4096)}})
        .total.loss;
  };

  CollapseMonitor monitor(model.experts_per_token);
  std::vector<StepMetrics> history;
  std::vector<Collapse> found;
  while (found.empty() && trainer.steps_done() < 300) {
    history.push_back(trainer.step());
    found = monitor.update(trainer.steps_done(), history.back().moe).began;
  }
  REQUIRE_FALSE(found.empty());
  const auto collapse = found.front();
  CAPTURE(describe(collapse));
  REQUIRE(collapse.kind == CollapseKind::dead_experts);
  CHECK(trainer.steps_done() - collapse.since_step < 50);

  const double before = held_out_loss();
  const auto revival = trainer.revive(collapse.layer, collapse.experts);
  const double after = held_out_loss();
  CAPTURE(before, after);
  CHECK(after < 1.02 * before);

  // Each has a tenth of the mean load or more in the 20 steps from the fifth on.
  std::vector<double> load(16, 0.0);
  for (int i = 0; i < 25; ++i) {
    const auto metrics = trainer.step();
    for (const auto& layer : metrics.moe) {
      for (size_t e = 0; i >= 5 && layer.layer == collapse.layer && e < load.size(); ++e) {
        load[e] += layer.load[e] * 16.0 / 20.0;
      }
    }
  }
  CAPTURE(load);
  for (const int64_t expert : revival.experts) {
    CHECK(load[static_cast<size_t>(expert)] > 0.1);
  }
}
