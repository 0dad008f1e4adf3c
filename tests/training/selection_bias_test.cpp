#include "moe/training/selection_bias.h"

#include "moe/checkpoint/state_dict.h"
#include "moe/evaluation/evaluator.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

namespace {

DecoderOptions biased_decoder() {
  auto options = learning_decoder();
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  return options;
}

TrainerOptions biased_training() {
  auto options = quick_options();
  options.load_balancing_weight = 0.0;
  options.selection_bias_rate = 0.01;
  return options;
}

const torch::Tensor& selection_bias(const DecoderLM& model, size_t layer) {
  return model->layers->at<DecoderBlockImpl>(layer).moe->router->selection_bias;
}

torch::Tensor selection_biases(const DecoderLM& model) {
  return torch::cat({selection_bias(model, 0), selection_bias(model, 1)}).clone();
}

/// rate · sign(mean load − load) of both layers, of a step's own report.
torch::Tensor expected_change(const StepMetrics& metrics, double rate) {
  std::vector<double> change;
  for (const auto& layer : metrics.moe) {
    for (const double load : layer.load) {
      const double missing = 1.0 / static_cast<double>(layer.load.size()) - load;
      change.push_back(missing > 1e-9 ? rate : missing < -1e-9 ? -rate : 0.0);
    }
  }
  return torch::tensor(change);
}

} // namespace

TEST_CASE("update_selection_bias: by hand", "[training]") {
  const auto counts = torch::tensor({8, 4, 4, 0}, torch::kInt64); // 4 on average
  const auto changed = [&](const SelectionBiasRule& rule, const std::vector<RowRange>& rows) {
    auto bias = torch::tensor({0.5, 0.0, 0.0, -0.5});
    update_selection_bias(bias, counts, rule, rows);
    return bias;
  };
  const std::vector<RowRange> all = {{0, 4}};
  CHECK_THAT(changed({.rate = 0.1}, all), AllClose(torch::tensor({0.4, 0.0, 0.0, -0.4}), 1e-6));
  const auto half = torch::tensor({12, 4, 0, 0}, torch::kInt64);
  auto bias = torch::zeros({4});
  update_selection_bias(bias, half, {.rate = 0.1, .proportional = true}, all);
  CHECK_THAT(bias, AllClose(torch::tensor({-0.2, 0.0, 0.1, 0.1}), 1e-6));
  // Signs -1, 0, 1, 1 have the mean 0.25.
  bias.zero_();
  update_selection_bias(bias, half, {.rate = 0.1, .centered = true}, all);
  CHECK_THAT(bias, AllClose(torch::tensor({-0.125, -0.025, 0.075, 0.075}), 1e-6));
  CHECK_THAT(
      changed({.rate = 0.1}, {{3, 4}}), AllClose(torch::tensor({0.5, 0.0, 0.0, -0.4}), 1e-6));
  // Without any rows there is nothing to balance.
  bias.fill_(0.25);
  update_selection_bias(bias, torch::zeros({4}, torch::kInt64), {.rate = 0.1}, all);
  CHECK_THAT(bias, SameBits(torch::full({4}, 0.25)));
}

TEST_CASE("Trainer: the selection bias moves by the load of the whole step", "[training]") {
  const TrainingSetup setup;
  auto options = biased_training();
  options.batch_size = 1;
  options.accumulation_steps = 3;
  options.recompute = GENERATE(false, true);
  auto trainer = setup.trainer(biased_decoder(), options);
  auto expected = torch::zeros({8});
  for (int i = 0; i < 3; ++i) {
    const auto metrics = trainer.step();
    expected += expected_change(metrics, 0.01);
    CHECK_THAT(selection_biases(trainer.model()), AllClose(expected, 1e-6));
  }
  CHECK(expected.count_nonzero().item<int64_t>() > 4);
}

TEST_CASE("Trainer: the selection bias evens out the experts without a loss", "[training]") {
  const TrainingSetup setup;
  const auto final_violation = [&](double rate, SelectionBiasUpdate update) {
    auto options = biased_training();
    options.steps = 60;
    options.lr = 1e-3;
    options.selection_bias_rate = rate;
    options.selection_bias_update = update;
    auto trainer = setup.trainer(biased_decoder(), options);
    // A biased start: one expert is preferred by every token.
    selection_bias(trainer.model(), 0)[0] = 0.2;
    double sum = 0.0;
    while (trainer.steps_done() < options.steps) {
      const auto metrics = trainer.step();
      sum += metrics.step > 40 ? metrics.moe[0].max_violation / 20.0 : 0.0;
    }
    return sum;
  };
  const double without = final_violation(0.0, SelectionBiasUpdate::sign);
  const double by_sign = final_violation(0.005, SelectionBiasUpdate::sign);
  const double in_proportion = final_violation(0.02, SelectionBiasUpdate::proportional);
  CAPTURE(without, by_sign, in_proportion);
  CHECK(by_sign < without / 2.0);
  CHECK(in_proportion < without / 2.0);
}

TEST_CASE(
    "Trainer: the selection bias rests with a frozen router or a rate of 0", "[training]") {
  const TrainingSetup setup;
  auto options = biased_training();
  int64_t learning_rows = 0;
  SECTION("no rate") {
    options.selection_bias_rate = 0.0;
  }
  SECTION("frozen") {
    options.freeze = {"router"};
  }
  SECTION("others only") {
    options.only = {"experts"};
  }
  SECTION("one row only") {
    options.only = {"router=2"};
    learning_rows = 1;
  }
  auto trainer = setup.trainer(biased_decoder(), options);
  trainer.step();
  const auto biases = selection_biases(trainer.model()).view({2, 4});
  CHECK(biases.count_nonzero().item<int64_t>() <= 2 * learning_rows);
  CHECK((biases.select(1, 2).count_nonzero().item<int64_t>() > 0) == (learning_rows > 0));
}

TEST_CASE(
    "Trainer: evaluation and skipped steps leave the selection bias alone", "[training]") {
  const TrainingSetup setup;
  auto options = biased_training();
  options.on_nonfinite = OnNonFinite::skip;
  auto trainer = setup.trainer(biased_decoder(), options);
  trainer.step();
  const auto before = selection_biases(trainer.model());
  const auto tokens = token_file(setup.folder.path() / "held.tokens", repeating_ids(99, 7), 23);
  evaluate(trainer.model(), {{"text", EvaluationWindows(tokens, 0, 2, 16)}});
  CHECK_THAT(selection_biases(trainer.model()), SameBits(before));
  {
    const torch::NoGradGuard no_grad;
    trainer.model()->final_norm->weight.fill_(std::numeric_limits<float>::quiet_NaN());
  }
  trainer.step();
  REQUIRE(trainer.steps_skipped() == 1);
  CHECK_THAT(selection_biases(trainer.model()), SameBits(before));
}

TEST_CASE("Trainer: padding does not move the selection bias", "[training]") {
  const TemporaryFolder folder;
  auto options = biased_training();
  options.batch_size = 1;
  const auto biases = [&](int64_t length) {
    options.sequence_length = length;
    torch::manual_seed(0);
    Trainer trainer(
        DecoderLM(biased_decoder()),
        TokenDataset({conversations(folder.path(), 1)}, {}, 0, false, length),
        options);
    trainer.step();
    return selection_biases(trainer.model());
  };
  // A row that the conversation fills, and a row of which it is a third.
  CHECK_THAT(biases(15), SameBits(biases(5)));
}

TEST_CASE("Trainer: restored, selection biases go on bit for bit", "[training]") {
  const TrainingSetup setup;
  const auto options = biased_training();
  auto whole = setup.trainer(biased_decoder(), options);
  auto first = setup.trainer(biased_decoder(), options);
  for (int i = 0; i < 4; ++i) {
    whole.step();
    first.step();
  }
  const auto path = setup.folder.path() / "model.safetensors";
  save_safetensors(*first.model(), path);
  DecoderLM model(biased_decoder());
  load_safetensors(*model, path);
  Trainer second(model, setup.dataset(), options);
  second.restore(first.state());
  for (int i = 0; i < 4; ++i) {
    CHECK(second.step().loss == whole.step().loss);
  }
  CHECK(selection_biases(whole.model()).count_nonzero().item<int64_t>() > 0);
  CHECK_THAT(selection_biases(second.model()), SameBits(selection_biases(whole.model())));
}
