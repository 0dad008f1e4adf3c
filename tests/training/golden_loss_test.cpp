#include <cstdio>
#include <fstream>
#include <iterator>

#include "moe/training/trainer.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_data.h"

using namespace moe;
using namespace moe::testing;

namespace {

constexpr int64_t kGoldenSteps = 40;

std::string golden_path() {
  return std::string(MOE_TEST_FIXTURES) + "/nano_losses.txt";
}

/// The model of models/nano.toml.
DecoderOptions nano_decoder() {
  DecoderOptions options;
  options.vocab_size = 257;
  options.model_dim = 64;
  options.num_layers = 2;
  options.attention.num_heads = 4;
  options.context_length = 256;
  options.num_experts = 8;
  options.experts_per_token = 2;
  options.expert_dim = 64;
  return options;
}

/// Its training, in shorter sequences.
TrainerOptions nano_training() {
  TrainerOptions options;
  options.dtype = "float32";
  options.steps = kGoldenSteps;
  options.batch_size = 8;
  options.sequence_length = 64;
  options.lr = 3e-3;
  options.warmup_steps = 20;
  return options;
}

/// A text that is the same everywhere: numbers counted up in words of bytes.
std::vector<int32_t> counting_text() {
  std::vector<int32_t> ids;
  for (int number = 0; number < 4000; ++number) {
    for (const char c : std::to_string(number * number) + (number % 7 == 0 ? ".\n" : " ")) {
      ids.push_back(c);
    }
  }
  return ids;
}

/// Losses of the first steps with weights, and so everything, in `type`. The initial weights
/// are integers, scaled, so that they do not depend on how LibTorch draws normal numbers.
std::vector<double> nano_losses(torch::ScalarType type) {
  const TemporaryFolder folder;
  const auto tokens = token_file(folder.path() / "text.tokens", counting_text(), 257);
  const TokenDataset data({{"text", tokens}}, {}, /*seed=*/0);
  DecoderLM model(nano_decoder());
  {
    const torch::NoGradGuard no_grad;
    uint64_t state = 1;
    for (auto& parameter : model->parameters()) {
      for (int64_t i = 0; parameter.dim() > 1 && i < parameter.numel(); ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const auto value = static_cast<float>(state >> 48) / 65536.0F - 0.5F;
        parameter.mutable_data_ptr<float>()[i] = 0.07F * value;
      }
    }
  }
  model->to(type);
  Trainer trainer(model, data, nano_training());
  std::vector<double> losses;
  for (int64_t step = 0; step < kGoldenSteps; ++step) {
    losses.push_back(trainer.step().loss);
  }
  return losses;
}

} // namespace

TEST_CASE("training follows the golden loss curve of the reference path", "[training]") {
  std::ifstream file(golden_path());
  const std::vector<double> golden(std::istream_iterator<double>(file), {});
  REQUIRE(golden.size() == kGoldenSteps);
  CHECK(golden.back() < 0.6 * golden.front());
  const auto losses = nano_losses(torch::kFloat32);
  for (size_t step = 0; step < golden.size(); ++step) {
    CAPTURE(step);
    CHECK_THAT(losses[step], WithinRel(golden[step], 1e-3));
  }
}

// Writes the fixture: weights in float64 take the readable ATen operations everywhere.
TEST_CASE("write the golden loss curve", "[.golden]") {
  std::ofstream file(golden_path());
  for (const double loss : nano_losses(torch::kFloat64)) {
    char line[32];
    std::snprintf(line, sizeof(line), "%.9f\n", loss);
    file << line;
  }
  REQUIRE(file.good());
}
