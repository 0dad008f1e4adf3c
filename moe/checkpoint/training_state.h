#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "moe/checkpoint/state_dict.h"

namespace moe {

/// What a training run needs, besides the model, to go on exactly where it was. Written beside
/// the model as `training_state.json` and `training_state.safetensors`.
struct TrainingState {
  int64_t step = 0;   ///< finished optimizer steps
  int64_t tokens = 0; ///< tokens trained on
  int64_t seed = 0;
  std::optional<double> best_validation_loss;
  std::optional<int64_t> best_step;
  std::string options;          ///< text of the run's config.toml
  std::string data_fingerprint; ///< of the token files
  std::string libtorch_version;
  std::string dtype;          ///< type of computation
  std::string device;         ///< cpu or cuda
  std::string cpu_capability; ///< instruction set that LibTorch uses
  int64_t threads = 0;
  /// Anything else the trainer counts (skipped steps, ...).
  std::map<std::string, int64_t> counters;

  /// Optimizer state by name, such as `exp_avg/layers.0.moe.down_proj`; any type and shape.
  StateDict optimizer;
  /// Experts of held-out tokens in the last evaluation by layer, such as `experts/1` [T, K].
  StateDict routing;
  /// State of random generators by name, such as `cpu`: what `Generator::get_state` returns.
  StateDict rng;
};

/// Writes the two files into `folder` (that of an `AtomicFolder`). Numbers come back exactly; a
/// `best_validation_loss` that is not finite is refused.
void save_training_state(const std::filesystem::path& folder, const TrainingState& state);

/// Reads what `save_training_state` wrote; throws `Error` naming the file and the fault. The
/// tensors share the memory of the mapped file.
TrainingState load_training_state(const std::filesystem::path& folder);

} // namespace moe
