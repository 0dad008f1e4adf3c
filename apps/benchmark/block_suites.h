#pragma once

#include <torch/types.h>

#include "apps/benchmark/suites.h"

namespace moe {

/// Forward and backward of a router and its experts against a dense SwiGLU network of equal
/// arithmetic (width K · F, at::linear and autograd): `ratio_to_dense`, for rows that are
/// spread evenly, by Zipf's law, and all on the same K experts. The two are timed in turns. On
/// a CUDA device also against the loop over the experts, `expert_mlp_reference`:
/// `ratio_to_loop`.
std::vector<Measurement> measure_block(
    const Workload& workload,
    int64_t repetitions,
    const torch::Device& device,
    const std::string& dtype,
    const NoteCallback& note);

/// The same computation spread over more experts: 8, 64 and 256 of width 128, 8 per token,
/// model width 256, 4096 tokens: `ratio_to_e8`.
std::vector<Measurement> measure_experts(int64_t repetitions, const NoteCallback& note);

/// Clipping and AdamW over the workload's parameters: `share_of_bandwidth` of the machine's
/// copying, at 28 bytes per parameter.
std::vector<Measurement> measure_optimizer(
    const Workload& workload,
    int64_t repetitions,
    const Machine& machine,
    const NoteCallback& note);

} // namespace moe
