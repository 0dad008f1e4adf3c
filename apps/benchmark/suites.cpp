#include "apps/benchmark/suites.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "apps/benchmark/training_step.h"
#include "moe/data/corpus.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/device.h"
#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

Workload workload(
    const std::string& name,
    int64_t layers,
    int64_t dim,
    int64_t heads,
    int64_t experts,
    int64_t per_token,
    int64_t expert_dim,
    int64_t vocab,
    int64_t batch,
    int64_t sequence) {
  DecoderOptions model;
  model.vocab_size = vocab;
  model.context_length = sequence;
  model.model_dim = dim;
  model.num_layers = layers;
  model.attention.num_heads = heads;
  model.num_experts = experts;
  model.experts_per_token = per_token;
  model.expert_dim = expert_dim;
  return {name, model, batch, sequence};
}

} // namespace

std::vector<Workload> workloads() {
  return {
      workload("tiny", 4, 256, 4, 8, 2, 512, 256, 8, 256),
      workload("fine", 8, 256, 8, 64, 8, 128, 8192, 16, 256),
      workload("coarse", 8, 512, 8, 8, 2, 1024, 8192, 8, 512),
      workload("mini", 8, 512, 8, 64, 8, 256, 32000, 4, 1024)};
}

double step_flops(const Workload& work) {
  const auto& m = work.model;
  const auto d = static_cast<double>(m.model_dim);
  const double layer =
      2 * 4 * d * d + 2 * d * static_cast<double>(m.num_experts) +
      6 * static_cast<double>(m.experts_per_token) * d * static_cast<double>(m.expert_dim) +
      2 * d * static_cast<double>(work.sequence_length);
  const double token =
      static_cast<double>(m.num_layers) * layer + 2 * static_cast<double>(m.vocab_size) * d;
  return 3 * token * static_cast<double>(work.batch_size * work.sequence_length);
}

std::vector<Measurement> measure_training(
    const Workload& work,
    const std::string& dtype,
    int64_t steps,
    const Machine& machine,
    const NoteCallback& note) {
  note("training " + work.name + " in " + dtype);
  torch::manual_seed(0);
  const auto type = find_dtype(dtype);
  const double peak_before =
      type == torch::kFloat32 ? machine.matmul_gflops : matmul_rate(type);
  const bool has_peak = reset_peak_memory();
  const auto before = resident_bytes();
  TrainingStep training(work, type, /*recompute=*/false);
  const auto step = [&] { training.run(); };
  time_runs(/*repetitions=*/2, step);
  const auto timing = time_runs(steps, step);
  const auto tokens = static_cast<double>(work.batch_size * work.sequence_length);
  const double gflops = step_flops(work) / timing.best / 1e9;
  const double peak_now = matmul_rate(type);
  const double peak = std::max(peak_before, peak_now);
  if (std::min(peak_before, peak_now) < 0.8 * peak) {
    note(fmt::format(
        "the machine is busy: at::mm in {} reached {:.0f} and {:.0f} GFLOP/s in this run",
        dtype,
        peak_before,
        peak_now));
  }
  const auto result = [&](const std::string& metric, double value, const std::string& unit) {
    return Measurement{"train", work.name, dtype, metric, value, unit};
  };
  std::vector<Measurement> results{
      result("tokens_per_s", tokens / timing.best, "tokens/s"),
      result("median_tokens_per_s", tokens / timing.median, "tokens/s"),
      result("share_of_peak", gflops / peak, "")};
  if (has_peak) {
    results.push_back(
        result("peak_bytes", static_cast<double>(peak_resident_bytes() - before), "bytes"));
  }
  return results;
}

std::vector<Measurement> measure_tokenizer(const std::string& path, const NoteCallback& note) {
  note("tokenizer on " + path);
  std::vector<std::string> texts;
  double bytes = 0.0;
  for_each_document(parse_data_source(path), Split::all, [&](const Document& document) {
    texts.push_back(document.text);
    bytes += static_cast<double>(document.text.size());
  });
  const std::vector<std::string_view> views(texts.begin(), texts.end());
  const auto training = time_runs(3, [&] { Tokenizer::train_bpe(views, 8192); });
  const auto tokenizer = Tokenizer::train_bpe(views, 8192);
  const auto encoding = time_runs(3, [&] {
    for (const auto& text : views) {
      tokenizer.encode_ordinary(text);
    }
  });
  return {
      {"tokenizer", "bpe:8192", "", "training_mb_per_s", bytes / training.best / 1e6, "MB/s"},
      {"tokenizer", "bpe:8192", "", "encoding_mb_per_s", bytes / encoding.best / 1e6, "MB/s"}};
}

} // namespace moe
