#include "moe/editing/text_sample.h"

#include <algorithm>

#include "moe/data/token_dataset.h"
#include "moe/editing/seeded.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr int64_t kSampleBatch = 8;

int64_t batches_for(int64_t count, int64_t sequence_length) {
  const int64_t tokens = kSampleBatch * sequence_length;
  return std::max<int64_t>(1, (count + tokens - 1) / tokens);
}

} // namespace

TextSample sample_text(
    const std::string& name,
    const TokenFile& tokens,
    int64_t count,
    int64_t sequence_length,
    int64_t seed) {
  check(tokens.num_tokens() >= 2, name, ": the text has fewer than two tokens");
  const int64_t length = std::min<int64_t>(sequence_length, tokens.num_tokens() - 1);
  const TokenDataset dataset({{name, tokens}}, /*weights=*/{}, seed);
  TextSample sample{name, {}};
  for (int64_t i = 0; i < batches_for(count, length); ++i) {
    sample.batches.push_back(dataset.batch(i, kSampleBatch, length).inputs);
  }
  return sample;
}

TextSample random_text(
    int64_t vocab_size, int64_t count, int64_t sequence_length, int64_t seed) {
  auto generator = seeded_generator({seed});
  TextSample sample{"random tokens", {}};
  for (int64_t i = 0; i < batches_for(count, sequence_length); ++i) {
    sample.batches.push_back(torch::randint(
        0, vocab_size, {kSampleBatch, sequence_length}, generator, torch::kInt64));
  }
  return sample;
}

} // namespace moe
