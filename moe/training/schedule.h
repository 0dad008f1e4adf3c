#pragma once

#include <cstdint>

#include "moe/training/trainer_options.h"

namespace moe {

/// Learning rate of the `step`-th optimizer step, 1 to `options.steps`, as a pure function.
///
/// Warm-up rises linearly from 0 and reaches `lr` at step `warmup_steps`. From there to the
/// last step, which has `min_lr_ratio * lr`, `cosine` falls along half a cosine and `linear`
/// along a line; `wsd` stays at `lr` and falls along a line during the last `decay_steps`;
/// `constant` stays at `lr`. A run shorter than its warm-up never gets to `lr`. Later steps
/// keep the last step's rate.
double learning_rate(int64_t step, const TrainerOptions& options);

} // namespace moe
