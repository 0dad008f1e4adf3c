#include "moe/training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "moe/error.h"

namespace moe {
namespace {

// The share of the way from `begin` to `end` that lies behind `step`.
double progress(int64_t step, int64_t begin, int64_t end) {
  if (end <= begin) {
    return step >= end ? 1.0 : 0.0;
  }
  const double share = static_cast<double>(step - begin) / static_cast<double>(end - begin);
  return std::clamp(share, 0.0, 1.0);
}

int64_t decay_start(const TrainerOptions& options) {
  const int64_t length = options.decay_steps == 0 ? options.steps / 5 : options.decay_steps;
  return std::max(options.warmup_steps, options.steps - length);
}

} // namespace

double learning_rate(int64_t step, const TrainerOptions& options) {
  // How much of the way from the peak down to the last rate is left, 1 to 0.
  double height = 1.0;
  if (options.schedule == LearningRateSchedule::cosine) {
    const double done = progress(step, options.warmup_steps, options.steps);
    height = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  } else if (options.schedule == LearningRateSchedule::linear) {
    height = 1.0 - progress(step, options.warmup_steps, options.steps);
  } else if (options.schedule == LearningRateSchedule::wsd) {
    height = 1.0 - progress(step, decay_start(options), options.steps);
  }
  if (step < options.warmup_steps) {
    return options.lr * static_cast<double>(step) / static_cast<double>(options.warmup_steps);
  }
  const double last = options.min_lr_ratio;
  return options.lr * (last + (1.0 - last) * height);
}

} // namespace moe
