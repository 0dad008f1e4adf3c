#include "apps/benchmark/memory_suites.h"

#include "apps/benchmark/training_step.h"
#include "moe/decoder/training_memory.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

struct StepCost {
  Timing timing;
  double peak_bytes = 0.0;
};

StepCost cost_of_step(const Workload& work, bool recompute, int64_t repetitions) {
  torch::manual_seed(0);
  reset_peak_memory();
  const auto before = resident_bytes();
  TrainingStep step(work, torch::kFloat32, recompute);
  time_runs(/*repetitions=*/2, [&] { step.run(); });
  const auto timing = time_runs(repetitions, [&] { step.run(); });
  return {timing, static_cast<double>(peak_resident_bytes() - before)};
}

/// Products of queries and keys, and of scores and values, forward and backward.
double attention_flops(const Workload& work) {
  const auto tokens = static_cast<double>(work.batch_size * work.sequence_length);
  return 3.0 * 2.0 * tokens * static_cast<double>(work.model.num_layers) *
         static_cast<double>(work.sequence_length) *
         static_cast<double>(work.model.attention.num_heads * resolved_head_dim(work.model));
}

} // namespace

std::vector<Measurement> measure_memory(
    const Workload& work, int64_t repetitions, const NoteCallback& note) {
  note("memory " + work.name);
  std::vector<Measurement> results;
  const auto result = [&](const std::string& suffix, const std::string& metric, double value) {
    const auto* unit = metric.ends_with("bytes") ? "bytes" : "";
    results.push_back({"memory", work.name + suffix, "float32", metric, value, unit});
  };
  double seconds = 0.0;
  double activations = 0.0;
  for (const bool recompute : {false, true}) {
    const auto expected =
        training_memory(work.model, work.batch_size, work.sequence_length, recompute);
    const double kept = expected.activations + expected.recomputed_block;
    const auto cost = cost_of_step(work, recompute, repetitions);
    const std::string suffix = recompute ? " recompute" : "";
    result(suffix, "peak_bytes", cost.peak_bytes);
    result(suffix, "activation_bytes", expected.activations);
    result(
        suffix, "share_of_bound", cost.peak_bytes / (1.5 * expected.parameters + 1.3 * kept));
    if (recompute) {
      result(suffix, "ratio_of_time", cost.timing.best / seconds);
      result(suffix, "ratio_of_activations", expected.activations / activations);
    }
    seconds = cost.timing.best;
    activations = expected.activations;
  }
  return results;
}

std::vector<Measurement> measure_context(
    const Workload& workload, int64_t repetitions, const NoteCallback& note) {
  constexpr int64_t tokens = 4096;
  std::vector<Measurement> results;
  for (const int64_t length : {256, 1024, 4096}) {
    auto work = workload;
    work.sequence_length = length;
    work.batch_size = tokens / length;
    work.model.context_length = length;
    const auto name = work.name + " " + std::to_string(length);
    note("context " + name);
    const auto cost = cost_of_step(work, /*recompute=*/false, repetitions);
    const auto result = [&](const char* metric, double value, const char* unit) {
      results.push_back({"context", name, "float32", metric, value, unit});
    };
    result("seconds_per_step", cost.timing.best, "s");
    result("attention_flops", attention_flops(work), "");
    result("peak_bytes", cost.peak_bytes, "bytes");
  }
  return results;
}

} // namespace moe
