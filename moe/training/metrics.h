#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/evaluation/routing_statistics.h"
#include "moe/training/append_file.h"

namespace moe {

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
};

/// One line of `metrics.jsonl` with its line end: `{"step":100,"loss":3.21,...}`. Numbers that
/// are not finite become null.
std::string metrics_line(const StepMetrics& metrics);

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
