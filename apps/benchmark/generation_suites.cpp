#include "apps/benchmark/generation_suites.h"

#include <span>

#include "moe/generation/inference_session.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr int64_t kPromptLength = 512;
constexpr int64_t kDecodeSteps = 128;

std::unique_ptr<InferenceSession> make_session(const Workload& work, WeightType weights) {
  torch::manual_seed(0);
  auto options = work.model;
  options.context_length = 2 * kPromptLength;
  return make_inference_session(DecoderLM(options), weights);
}

std::vector<int32_t> some_ids(int64_t count, int64_t vocab_size, int64_t seed) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>((i * 7919 + seed * 104729) % vocab_size));
  }
  return ids;
}

/// Times steps of one token for each of `sequences` sequences.
Timing time_decoding(InferenceSession& session, int64_t sequences) {
  const int64_t vocab = session.options().vocab_size;
  session.begin(sequences, kPromptLength + kDecodeSteps);
  for (int64_t i = 0; i < sequences; ++i) {
    session.prefill(i, some_ids(kPromptLength, vocab, i));
  }
  int64_t step = 0;
  return time_runs(kDecodeSteps, [&] { session.decode(some_ids(sequences, vocab, step++)); });
}

} // namespace

std::vector<Measurement> measure_prefill(
    const Workload& work, WeightType weights, const NoteCallback& note) {
  const std::string type(weight_type_name(weights));
  note("prefill of " + work.name + " in " + type);
  const auto session = make_session(work, weights);
  const auto prompt = some_ids(kPromptLength, work.model.vocab_size, 0);
  const auto timing = time_runs(/*repetitions=*/5, [&] {
    session->begin(1, kPromptLength + 1);
    session->prefill(0, prompt);
  });
  const auto rate = [](double seconds) { return static_cast<double>(kPromptLength) / seconds; };
  return {
      {"prefill", work.name, type, "tokens_per_s", rate(timing.best), "tokens/s"},
      {"prefill", work.name, type, "median_tokens_per_s", rate(timing.median), "tokens/s"}};
}

std::vector<Measurement> measure_decode(
    const Workload& work,
    WeightType weights,
    const Machine& machine,
    const NoteCallback& note) {
  const std::string type(weight_type_name(weights));
  note("decoding with " + work.name + " in " + type);
  const auto session = make_session(work, weights);
  const auto one = time_decoding(*session, 1);
  const auto eight = time_decoding(*session, 8);
  const auto& level =
      level_that_holds(machine.read_levels, static_cast<double>(session->weight_bytes()));
  const double gb_per_token = static_cast<double>(session->active_weight_bytes()) / 1e9;
  const auto result = [&](const std::string& metric, double value, const std::string& unit) {
    return Measurement{"decode", work.name, type, metric, value, unit};
  };
  return {
      result("tokens_per_s", 1.0 / one.best, "tokens/s"),
      result("median_tokens_per_s", 1.0 / one.median, "tokens/s"),
      result("share_of_bandwidth", gb_per_token / one.best / level.gb_per_s, level.name),
      result("batch_8_tokens_per_s", 8.0 / eight.median, "tokens/s")};
}

} // namespace moe
