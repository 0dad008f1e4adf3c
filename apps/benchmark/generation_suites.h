#pragma once

#include <vector>

#include "apps/benchmark/suites.h"
#include "moe/kernels/packed_matrix.h"

namespace moe {

/// A prompt of 512 tokens, taken in by an inference session: `tokens_per_s`.
std::vector<Measurement> measure_prefill(
    const Workload& workload, WeightType weights, const NoteCallback& note);

/// Tokens one by one after a prompt of 512, of one sequence and of eight at once:
/// `tokens_per_s`, the median's, and for one sequence `share_of_bandwidth`: the bytes of
/// weights that a token is computed with, over the time, over the read rate of the level of
/// memory that holds all weights.
std::vector<Measurement> measure_decode(
    const Workload& workload,
    WeightType weights,
    const Machine& machine,
    const NoteCallback& note);

} // namespace moe
