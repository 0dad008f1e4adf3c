#pragma once

#include "apps/benchmark/suites.h"

namespace moe {

/// Training steps with and without `recompute`, timed in turns: `peak_bytes` above the resident
/// size before the model was made, `share_of_bound` of 24 bytes per parameter and 1.3 times the
/// activations of `training_memory`, and `recompute_time_ratio`, `recompute_activation_share`.
std::vector<Measurement> measure_memory(
    const Workload& workload, int64_t repetitions, const NoteCallback& note);

/// The workload with sequences of 256, 1024 and 4096 tokens and 4096 tokens per step:
/// `seconds_per_step`, `peak_bytes`, and `attention_flops` of a step, which grow with the
/// square of the length.
std::vector<Measurement> measure_context(
    const Workload& workload, int64_t repetitions, const NoteCallback& note);

/// Where the time of a training step goes: each part of the model computed by itself, forward
/// and backward, at the workload's shape: `seconds` and `share_of_step`. What lies between the
/// parts, such as sums of the residual stream and losses of the router, is the `rest`.
std::vector<Measurement> measure_profile(
    const Workload& workload,
    const std::string& dtype,
    int64_t repetitions,
    const NoteCallback& note);

} // namespace moe
