#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/training/append_file.h"
#include "moe/training/metrics.h"

namespace moe {

/// CRC-32C (Castagnoli) of the bytes.
uint32_t crc32c(std::string_view bytes);

/// The frame of a TFRecord around `payload`: length, payload, and the masked CRC-32C of each.
std::string tfrecord(std::string_view payload);

/// A named number, such as {"train/loss", 3.2}.
using Scalar = std::pair<std::string, double>;

/// Named bars, drawn as a histogram whose bucket i has height i, such as {"layer_0/load", ...}.
using Bars = std::pair<std::string, std::vector<double>>;

/// Writes numbers that TensorBoard draws over the steps. Each object writes a file of its own,
/// `events.out.tfevents.TIME.HOST.PID`, as TensorBoard expects it of every start of a run.
///
/// Example:
/// ```
/// TensorBoardFile board("runs/demo", /*first_step=*/1);
/// board.append(step, {{"train/loss", 3.2}});
/// ```
class TensorBoardFile {
 public:
  /// Makes a new file in `folder` that begins with a mark of the session's start at
  /// `first_step`: TensorBoard then drops what earlier files hold of that step and later ones,
  /// which a resumed run computes again. Throws `Error` naming the file.
  TensorBoardFile(const std::filesystem::path& folder, int64_t first_step);

  /// Throws `Error` naming the file and the reason, such as a full disk.
  void append(
      int64_t step, const std::vector<Scalar>& scalars, const std::vector<Bars>& bars = {});

  const std::filesystem::path& path() const {
    return file_.path();
  }

 private:
  AppendFile file_;
};

/// The metrics of a step under the names that the toolkit uses in TensorBoard: `train/loss`,
/// `val/loss`, `layer_0/max_violation`, ...
std::vector<Scalar> metrics_scalars(const StepMetrics& metrics);

/// The load of the experts of each layer: `layer_0/load`, ...
std::vector<Bars> metrics_bars(const StepMetrics& metrics);

} // namespace moe
