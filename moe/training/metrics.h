#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/evaluation/collapse_monitor.h"
#include "moe/evaluation/routing_statistics.h"
#include "moe/training/append_file.h"

namespace moe {

/// Experts that were revived after a step.
struct Revival {
  int64_t layer = 0;
  std::vector<int64_t> experts;
  std::vector<int64_t> donors; ///< from which each was split

  bool operator==(const Revival&) const = default;
};

/// What is recorded of one training step.
struct StepMetrics {
  /// Optimizer steps done, this one included.
  int64_t step = 0;
  /// Cross-entropy of the batch in nats per token, without the balancing losses.
  double loss = 0.0;
  double lr = 0.0;
  /// Global norm of the gradient before it is clipped.
  double grad_norm = 0.0;
  double tokens_per_s = 0.0;
  /// Tokens trained on since step 0.
  int64_t tokens = 0;
  std::optional<double> load_balancing_loss;
  std::optional<double> router_z_loss;
  /// The other routing losses that the run has, by name.
  std::vector<std::pair<std::string, double>> routing_losses;
  /// On evaluation steps.
  std::optional<double> val_loss;
  /// One per MoE layer.
  std::vector<LayerRouting> moe;
  /// Collapses of the routing that were found in this step, and those that are over.
  std::vector<Collapse> collapse;
  std::vector<Collapse> recovered;
  /// After this step's update, and the loss on held-out text before and after it.
  std::vector<Revival> revived;
  std::optional<double> val_loss_before_revival;
  std::optional<double> val_loss_after_revival;
};

/// One line of `metrics.jsonl` with its line end: `{"step":100,"loss":3.21,...}`. Numbers that
/// are not finite become null; loads are rounded to six digits or what tells one row.
std::string metrics_line(const StepMetrics& metrics);

/// What `metrics_line` wrote; numbers that are null are NaN. Nothing for a line that was not
/// written completely or holds something else.
std::optional<StepMetrics> read_metrics_line(const std::string& line);

/// Calls `visit` for the lines of a `metrics.jsonl` in turn, up to the first damaged one.
/// Throws `Error` for a file that cannot be read.
void read_metrics(
    const std::filesystem::path& path, const std::function<void(const StepMetrics&)>& visit);

/// The run's `metrics.jsonl`: one JSON object per step, written at once.
class MetricsFile {
 public:
  /// Opens the file to go on after `last_step` (0 for a new run): the lines of later steps, and
  /// everything from the first damaged line on, such as one half written before a crash, are
  /// cut off. Throws `Error` naming the file.
  MetricsFile(const std::filesystem::path& path, int64_t last_step);

  /// Throws `Error` naming the file and the reason, such as a full disk.
  void append(const StepMetrics& metrics);

 private:
  AppendFile file_;
};

} // namespace moe
