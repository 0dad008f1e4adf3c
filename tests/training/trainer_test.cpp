#include "moe/training/trainer.h"

#include <torch/cuda.h>

#include <cmath>
#include <limits>

#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

namespace {

double largest_violation(const StepMetrics& metrics) {
  double largest = 0.0;
  for (const auto& layer : metrics.moe) {
    largest = std::max(largest, layer.max_violation);
  }
  return largest;
}

} // namespace

TEST_CASE("Trainer: learns a repeated pattern", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.steps = 60;
  auto trainer = setup.trainer(learning_decoder(), options);
  const double first = trainer.step().loss;
  CHECK_THAT(first, WithinAbs(std::log(23.0), 0.3));
  StepMetrics last;
  while (trainer.steps_done() < options.steps) {
    last = trainer.step();
  }
  CHECK(last.loss < 0.1);
  CHECK(last.step == 60);
  CHECK(last.tokens == 60 * 4 * 16);
  CHECK(last.moe.size() == 2);
  CHECK_THAT(last.load_balancing_loss.value(), WithinAbs(1.0, 0.2));
}

TEST_CASE("Trainer: the balance loss evens out the experts", "[training]") {
  const TrainingSetup setup;
  const auto final_violation = [&](double weight) {
    auto options = quick_options();
    options.steps = 80;
    options.load_balancing_weight = weight;
    options.router_z_weight = 0.0;
    auto trainer = setup.trainer(learning_decoder(), options);
    // A biased start: one expert is preferred by every token.
    {
      const torch::NoGradGuard no_grad;
      for (const auto& block : *trainer.model()->layers) {
        auto& weight_of_router = block->as<DecoderBlockImpl>()->moe->router->weight;
        weight_of_router[0].copy_(weight_of_router[0] + 0.05);
      }
    }
    double sum = 0.0;
    while (trainer.steps_done() < options.steps) {
      const auto metrics = trainer.step();
      sum += metrics.step > 60 ? largest_violation(metrics) / 20.0 : 0.0;
    }
    return sum;
  };
  const double without = final_violation(0.0);
  const double with = final_violation(0.1);
  CAPTURE(without, with);
  CHECK(with < without / 3.0);
}

TEST_CASE("Trainer: accumulation gives the gradient of the whole batch", "[training]") {
  const TrainingSetup setup;
  auto whole = quick_options();
  whole.batch_size = 4;
  whole.load_balancing_weight = 0.0;
  whole.router_z_weight = 0.0;
  auto parts = whole;
  parts.batch_size = 1;
  parts.accumulation_steps = 4;
  auto first = setup.trainer(learning_decoder(), whole);
  auto second = setup.trainer(learning_decoder(), parts);
  for (int i = 0; i < 3; ++i) {
    const auto a = first.step();
    const auto b = second.step();
    CHECK_THAT(b.loss, WithinRel(a.loss, 1e-5));
    CHECK_THAT(b.grad_norm, WithinRel(a.grad_norm, 1e-4));
    CHECK(a.tokens == b.tokens);
  }
}

TEST_CASE("Trainer: restored, it goes on bit for bit", "[training]") {
  const TrainingSetup setup;
  const auto options = quick_options();
  auto decoder = learning_decoder();
  if (GENERATE(false, true)) { // what is drawn at random is a function of the step
    decoder.router.noise = RouterNoise::learned;
    decoder.router.jitter = 0.1;
    decoder.router.capacity_factor = 0.8;
  }
  auto whole = setup.trainer(decoder, options);
  auto first = setup.trainer(decoder, options);
  for (int i = 0; i < 5; ++i) {
    whole.step();
    first.step();
  }
  // Through files, as a run does it.
  const auto folder = setup.folder.path();
  save_safetensors(*first.model(), folder / "model.safetensors");
  save_training_state(folder, first.state());
  DecoderLM model(decoder);
  load_safetensors(*model, folder / "model.safetensors");
  Trainer second(model, setup.dataset(), options);
  second.restore(load_training_state(folder));
  for (int i = 0; i < 5; ++i) {
    const auto a = whole.step();
    const auto b = second.step();
    CHECK(a.loss == b.loss);
    CHECK(a.grad_norm == b.grad_norm);
    CHECK(a.step == b.step);
  }
  const auto expected = whole.model()->named_parameters();
  for (const auto& item : second.model()->named_parameters()) {
    CHECK_THAT(item.value(), SameBits(expected[item.key()]));
  }
}

TEST_CASE("Trainer: a loss that is not finite stops or skips, as told", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  const auto poisoned = [&](const TrainerOptions& given) {
    auto trainer = setup.trainer(learning_decoder(), given);
    const torch::NoGradGuard no_grad;
    trainer.model()->final_norm->weight.fill_(std::numeric_limits<float>::quiet_NaN());
    return trainer;
  };
  SECTION("stop") {
    auto trainer = poisoned(options);
    REQUIRE_THROWS_WITH(
        trainer.step(), ContainsSubstring("step 1") && ContainsSubstring("loss is nan"));
  }
  SECTION("skip") {
    options.on_nonfinite = OnNonFinite::skip;
    auto trainer = poisoned(options);
    const auto before = trainer.model()->embedding->weight.detach().clone();
    trainer.step();
    CHECK(trainer.steps_skipped() == 1);
    CHECK(trainer.steps_done() == 1);
    CHECK_THAT(trainer.model()->embedding->weight, SameBits(before));
  }
}

TEST_CASE("Trainer: gradients are clipped to the norm asked for", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.warmup_steps = 0;
  options.weight_decay = 0.0;
  // AdamW's first step does not depend on the gradient's size, so compare moments.
  options.max_grad_norm = 0.01;
  auto trainer = setup.trainer(learning_decoder(), options);
  const auto metrics = trainer.step();
  REQUIRE(metrics.grad_norm > 0.01);
  double squares = 0.0;
  const auto state = trainer.state();
  for (const auto& item : state.optimizer) {
    if (item.key().starts_with("exp_avg/")) {
      squares += item.value().to(torch::kFloat64).square().sum().item<double>();
    }
  }
  CHECK_THAT(std::sqrt(squares), WithinRel(0.01 * (1.0 - options.beta1), 1e-4));
}

TEST_CASE("Trainer: computes in bfloat16 with float32 weights", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.dtype = "bfloat16";
  options.steps = 3;
  auto half = setup.trainer(learning_decoder(), options);
  options.dtype = "float32";
  auto full = setup.trainer(learning_decoder(), options);
  for (int i = 0; i < 3; ++i) {
    CHECK_THAT(half.step().loss, WithinAbs(full.step().loss, 0.05));
  }
  for (const auto& parameter : half.model()->parameters()) {
    CHECK(parameter.scalar_type() == torch::kFloat32);
  }
}

TEST_CASE("Trainer: impossible requests are named", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  SECTION("a device that is not there") {
    if (torch::cuda::is_available()) {
      return;
    }
    options.device = "cuda";
    REQUIRE_THROWS_WITH(
        setup.trainer(learning_decoder(), options), ContainsSubstring("no cuda device"));
  }
  SECTION("text that is too short") {
    options.sequence_length = 5000;
    REQUIRE_THROWS_WITH(setup.trainer(learning_decoder(), options), ContainsSubstring("text"));
  }
  SECTION("more tokens than the model has") {
    auto decoder = learning_decoder();
    decoder.vocab_size = 22;
    REQUIRE_THROWS_WITH(
        setup.trainer(decoder, options),
        ContainsSubstring("text.tokens") && ContainsSubstring("23 tokens") &&
            ContainsSubstring("only 22"));
    decoder.vocab_size = 24; // rounded up
    CHECK_NOTHROW(setup.trainer(decoder, options));
  }
}

TEST_CASE("Trainer: one step changes exactly what may learn", "[training]") {
  const TrainingSetup setup;
  const auto changed_by = [&](std::vector<std::string> freeze, std::vector<std::string> only) {
    auto options = quick_options();
    options.freeze = std::move(freeze);
    options.only = std::move(only);
    options.warmup_steps = 0;
    auto trainer = setup.trainer(learning_decoder(), options);
    StateDict before;
    for (const auto& entry : trainer.model()->named_parameters()) {
      before.insert(entry.key(), entry.value().detach().clone());
    }
    trainer.step();
    std::map<std::string, std::vector<bool>> rows;
    for (const auto& entry : trainer.model()->named_parameters()) {
      const auto differs = (entry.value().detach() != before[entry.key()])
                               .flatten(1 - (entry.value().dim() == 1));
      for (int64_t row = 0; row < entry.value().size(0); ++row) {
        rows[entry.key()].push_back(differs[row].any().item<bool>());
      }
    }
    return rows;
  };
  const auto any = [](const std::vector<bool>& flags) {
    return std::find(flags.begin(), flags.end(), true) != flags.end();
  };
  for (const auto& [name, rows] : changed_by({"router", "attention"}, {})) {
    CAPTURE(name);
    const bool is_frozen = name.find(".router.") != std::string::npos ||
                           name.find(".attention.") != std::string::npos;
    CHECK(any(rows) == !is_frozen);
  }
  for (const auto& [name, rows] : changed_by({}, {"experts=1,3"})) {
    CAPTURE(name);
    const bool is_expert =
        name.ends_with(".moe.gate_up_proj") || name.ends_with(".moe.down_proj");
    CHECK(
        rows == (is_expert ? std::vector<bool>{false, true, false, true}
                           : std::vector<bool>(rows.size(), false)));
  }
}

TEST_CASE("Trainer: padding has no part in routing", "[training]") {
  const TemporaryFolder folder;
  auto options = quick_options();
  options.batch_size = 1;
  const auto step = [&](const TokenDomain& domain, int64_t length) {
    options.sequence_length = length;
    torch::manual_seed(0);
    Trainer trainer(
        DecoderLM(learning_decoder()), TokenDataset({domain}, {}, 0, false, length), options);
    return trainer.step();
  };
  // A row that the conversation fills, and a row of which it is a third.
  const auto full = step(conversations(folder.path(), 1), 5);
  const auto padded = step(conversations(folder.path(), 1), 15);
  CHECK_THAT(padded.loss, WithinRel(full.loss, 1e-5));
  CHECK_THAT(
      padded.load_balancing_loss.value(), WithinRel(full.load_balancing_loss.value(), 1e-5));
  CHECK_THAT(padded.router_z_loss.value(), WithinRel(full.router_z_loss.value(), 1e-5));
  CHECK_THAT(padded.grad_norm, WithinRel(full.grad_norm, 1e-4));
  CHECK(padded.moe[0].load == full.moe[0].load);
  // Three equal conversations in one row do not see each other.
  const auto packed = step(conversations(folder.path(), 3), 15);
  CHECK_THAT(packed.loss, WithinRel(full.loss, 1e-5));
  CHECK_THAT(packed.grad_norm, WithinRel(full.grad_norm, 1e-4));
}

TEST_CASE("Trainer: only new experts learn, and their rows of the router", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.only = {"new-experts"};
  options.load_balancing_weight = 0.0;
  torch::manual_seed(0);
  DecoderLM model(learning_decoder());
  const auto before = DecoderLM(std::dynamic_pointer_cast<DecoderLMImpl>(model->clone()));
  Trainer trainer(model, setup.dataset(), options, {{1, {1, 3}}});
  for (int i = 0; i < 3; ++i) {
    trainer.step();
  }
  const auto old = before->named_parameters();
  for (const auto& item : model->named_parameters()) {
    CAPTURE(item.key());
    const auto changed = (item.value() != old[item.key()]).view({item.value().size(0), -1});
    const auto rows = changed.any(1);
    const bool learns = item.key().starts_with("layers.1.moe.");
    for (int64_t row = 0; row < rows.size(0); ++row) {
      CHECK(rows[row].item<bool>() == (learns && (row == 1 || row == 3)));
    }
  }
}

TEST_CASE("Trainer: a step has gradients of its own only", "[training]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.lora_rank = GENERATE(0, 2);
  CAPTURE(options.lora_rank);
  auto expected = setup.trainer(learning_decoder(), options);
  auto trainer = setup.trainer(learning_decoder(), options);
  const auto check_step = [&] {
    const auto a = expected.step();
    const auto b = trainer.step();
    CHECK(b.loss == a.loss);
    CHECK(b.grad_norm == a.grad_norm);
  };
  // Left there by somebody else.
  for (auto& parameter : trainer.model()->parameters()) {
    parameter.mutable_grad() = torch::ones_like(parameter);
  }
  check_step();
  // Left there by a step that threw; then repaired.
  {
    const torch::NoGradGuard no_grad;
    auto& weight = trainer.model()->final_norm->weight;
    const auto good = weight.clone();
    weight.fill_(std::numeric_limits<float>::quiet_NaN());
    REQUIRE_THROWS_WITH(
        [&] {
          const torch::AutoGradMode grad(true);
          trainer.step();
        }(),
        ContainsSubstring("loss is nan"));
    weight.copy_(good);
  }
  check_step();
  const auto weights = expected.model()->named_parameters();
  for (const auto& item : trainer.model()->named_parameters()) {
    CHECK_THAT(item.value(), SameBits(weights[item.key()]));
  }
}

TEST_CASE("Trainer: a step is in training mode, whatever the model's", "[training]") {
  const TrainingSetup setup;
  auto decoder = learning_decoder();
  decoder.router.jitter = 0.3; // in training only
  auto expected = setup.trainer(decoder, quick_options());
  auto trainer = setup.trainer(decoder, quick_options());
  trainer.model()->eval();
  CHECK(trainer.step().loss == expected.step().loss);
  CHECK(trainer.model()->is_training());
}

TEST_CASE("Trainer: impossible revivals are named and change no mode", "[training]") {
  const TrainingSetup setup;
  auto trainer = setup.trainer(tiny_decoder(), quick_options()); // layer 0 is dense
  CHECK_THROWS_WITH(trainer.revive(1, {1}), ContainsSubstring("none is done"));
  CHECK(trainer.model()->is_training());
  trainer.step();
  for (const int64_t layer : {-1, 0, 9}) {
    CHECK_THROWS_WITH(
        trainer.revive(layer, {1}),
        ContainsSubstring("layer " + std::to_string(layer)) && ContainsSubstring("[1]"));
  }
  CHECK_THROWS_WITH(trainer.revive(1, {9}), ContainsSubstring("expert 9 is not in [0,"));
  CHECK_THROWS_WITH(trainer.revive(1, {-1}), ContainsSubstring("expert -1 is not in [0,"));
  CHECK_THROWS_WITH(trainer.revive(1, {1, 1}), ContainsSubstring("expert 1 is there twice"));
  CHECK_THROWS(trainer.revive(1, {0, 1, 2, 3})); // none is left to share
  CHECK(trainer.model()->is_training());
  CHECK(trainer.model()->layers->at<DecoderBlockImpl>(1).moe->is_training());
}
