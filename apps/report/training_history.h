#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moe {

/// One quantity over time: a value for each of the history's steps, NaN where none is known.
struct HistoryCurve {
  std::string key; ///< as in metrics.jsonl: `loss`, `val_loss`, `lr`, ...
  std::vector<double> values;
};

/// A MoE layer over time.
struct LayerHistory {
  int64_t layer = 0;
  std::vector<HistoryCurve> curves;      ///< `entropy`, `max_violation`, `dead`, ...
  std::vector<std::vector<double>> load; ///< [load steps, E], relative to the mean; or empty
};

/// A collapse that began while training, or was over.
struct HistoryEvent {
  int64_t step = 0;
  bool began = true;
  std::string text; ///< `describe` or `describe_recovery` of it
};

/// What `metrics.jsonl` tells of a run, short enough to be drawn: neighbouring steps are
/// averaged.
struct TrainingHistory {
  std::vector<int64_t> steps; ///< the last of those averaged
  std::vector<HistoryCurve> curves;
  std::vector<LayerHistory> layers;
  std::vector<int64_t> load_steps;  ///< of `load`, of which there may be fewer
  std::vector<HistoryEvent> events; ///< the first dozen
  int64_t lines = 0;                ///< in the file
  int64_t unreadable = 0;           ///< lines that are no record of a step
};

/// How much of a history is kept.
struct HistoryLimits {
  int64_t steps = 240;     ///< points of a curve
  int64_t cells = 120'000; ///< loads of all layers together
  int64_t parsed = 4'000;  ///< lines that are read, evenly spread; and all with a `val_loss`
};

/// Reads any run's `metrics.jsonl`: every number of a line is a curve, and every number of the
/// entries of `moe` one of that layer. Throws `Error` if the file cannot be read.
TrainingHistory read_training_history(
    const std::filesystem::path& path, const HistoryLimits& limits = {});

} // namespace moe
