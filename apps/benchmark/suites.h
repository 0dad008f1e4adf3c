#pragma once

#include <functional>
#include <string>
#include <vector>

#include "apps/benchmark/measurement.h"
#include "moe/decoder/decoder_options.h"

namespace moe {

/// A shape of model and batch whose speed is known for other toolkits, too.
struct Workload {
  std::string name;
  DecoderOptions model;
  int64_t batch_size = 0;
  int64_t sequence_length = 0;
};

/// `tiny`, `fine`, `coarse` and `mini`.
std::vector<Workload> workloads();

/// Floating point operations of one training step by the usual count: three times the forward
/// products, attention over half the sequence on average.
double step_flops(const Workload& workload);

/// Tells what is being measured.
using NoteCallback = std::function<void(const std::string&)>;

/// Whole training steps: forward, backward, clipping, AdamW. `share_of_peak` is of at::mm in
/// the same type.
std::vector<Measurement> measure_training(
    const Workload& workload,
    const std::string& dtype,
    int64_t steps,
    const Machine& machine,
    const NoteCallback& note);

/// Training and encoding of a byte-level BPE of 8192 tokens on the text at `path`.
std::vector<Measurement> measure_tokenizer(const std::string& path, const NoteCallback& note);

} // namespace moe
