#pragma once

#include "moe/training/trainer.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_data.h"
#include "tests/support/tiny_decoder.h"

namespace moe::testing {

/// In float32, so that what tests compare does not depend on the processor.
inline TrainerOptions quick_options() {
  TrainerOptions options;
  options.dtype = "float32";
  options.steps = 30;
  options.batch_size = 4;
  options.sequence_length = 16;
  options.warmup_steps = 3;
  options.lr = 1e-2;
  return options;
}

/// Two layers with experts.
inline DecoderOptions learning_decoder() {
  auto options = tiny_decoder();
  options.initializer_range = 0.02;
  options.dense_layers.clear();
  return options;
}

/// A folder of training text, and trainers that read it.
struct TrainingSetup {
  TemporaryFolder folder;

  TokenDataset dataset(int32_t period = 7) const {
    return TokenDataset(
        {{"text", token_file(folder.path() / "text.tokens", repeating_ids(2000, period), 23)}},
        {},
        /*seed=*/0);
  }

  Trainer trainer(const DecoderOptions& model, const TrainerOptions& options) const {
    torch::manual_seed(options.seed);
    return Trainer(DecoderLM(model), dataset(), options);
  }
};

/// A domain of equal conversations of five tokens each, of which the last three are replies.
inline TokenDomain conversations(const std::filesystem::path& folder, int64_t count) {
  const auto path = (folder / std::to_string(count)).string();
  TokenFileWriter writer(path, 23, "test", 22);
  TokenFileWriter replies(path + ".replies", 2, "replies", 0);
  for (int64_t i = 0; i < count; ++i) {
    writer.add(repeating_ids(5, 5), 5);
    replies.add(std::vector<int32_t>{0, 0, 1, 1, 1}, 3);
  }
  writer.finish();
  replies.finish();
  return {"chat", TokenFile(path, 23, "test"), TokenFile(path + ".replies", 2, "replies")};
}

} // namespace moe::testing
