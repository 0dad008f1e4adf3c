#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "apps/status_line.h"

namespace moe {

/// What is shown of a training step.
struct ProgressUpdate {
  int64_t step = 0;
  double loss = 0.0;
  double tokens_per_s = 0.0;
  /// Expert balance: the largest max_violation of a layer; nothing for a dense model.
  std::optional<double> max_violation;
  /// Experts with next to no load, over all layers; shown unless 0.
  int64_t dead_experts = 0;
  /// Largest share of rows that a layer dropped; shown unless 0.
  double dropped = 0.0;
};

/// `step 120/1000 [====>    ] loss 3.214  5.1k tokens/s  balance 0.31  2:13 left`, in at most
/// `width` columns: first the bar shrinks, then the last parts go. Negative `seconds_left`
/// means not known yet.
std::string progress_bar(
    const ProgressUpdate& update, int64_t total, double seconds_left, int width, bool colours);

/// The same as a plain line without the bar.
std::string progress_line(const ProgressUpdate& update, int64_t total, double seconds_left);

/// `7 s`, `2:13`, `1:02:13`, `3 d 4 h`.
std::string format_duration(double seconds);

/// Shows the steps of a training run: a live bar on a terminal, otherwise a plain line for the
/// first step, every `log_every` steps and the last.
///
/// Example:
/// ```
/// StatusLine status;
/// Progress progress(status, /*first_step=*/resumed_step + 1, options.steps,
/// options.log_every); progress.update({.step = step, .loss = loss, .tokens_per_s = speed});
/// status.log("saved {}", folder);
/// progress.finish();
/// ```
class Progress {
 public:
  /// The clock starts now. `status` must outlive this.
  Progress(StatusLine& status, int64_t first_step, int64_t total, int64_t log_every);

  void update(const ProgressUpdate& update);

  /// Keeps the bar's last state as a final line.
  void finish();

 private:
  double seconds_left(int64_t step) const;

  StatusLine& status_;
  int64_t first_step_;
  int64_t total_;
  int64_t log_every_;
  std::chrono::steady_clock::time_point start_;
  std::optional<ProgressUpdate> last_;
};

} // namespace moe
