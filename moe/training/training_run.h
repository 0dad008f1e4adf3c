#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"
#include "moe/checkpoint/run_folder.h"
#include "moe/data/tokenizer/tokenizer.h"
#include "moe/decoder/decoder_options.h"
#include "moe/evaluation/evaluator.h"
#include "moe/training/metrics.h"
#include "moe/training/tensorboard.h"
#include "moe/training/trainer.h"
#include "moe/training/training_data.h"

namespace moe {

/// What a run tells its caller, and asks.
struct TrainingCallbacks {
  LogCallback log = [](const std::string&) {};
  /// After every step.
  std::function<void(const StepMetrics&)> on_step = [](const StepMetrics&) {};
  /// Asked after every step: whether to save and stop now.
  std::function<bool()> should_stop = [] { return false; };
};

/// A training run on disk: steps, evaluations, metrics and checkpoints in a run folder (layout
/// in `RunFolder`).
///
/// - Every `eval_every` steps and at the end the held-out text is evaluated. A best result so
/// far
///   is saved as a checkpoint that `best` names.
///   Where an evaluation fails, a checkpoint is saved before the error goes on.
/// - Every `checkpoint_every` steps, at the end and when stopped, a checkpoint is saved that
/// `last`
///   names. Older ones are removed, but for `keep_checkpoints` and the best.
/// - Collapses of the routing (`CollapseMonitor`) are logged as warnings and recorded. By
///   `on_collapse`, dead experts are revived in the same step (`revive_experts`), or the run
///   saves and throws `Error`.
/// - A resumed run goes on exactly as if it had not been interrupted, with the same LibTorch,
///   kind of processor and number of threads. One that was ended before its first checkpoint
///   begins again.
///
/// Example:
/// ```
/// TrainingRun run("runs/demo", model_options, options, config_text, /*resume=*/false,
/// callbacks); run.train(/*stop_after=*/options.steps);
/// ```
class TrainingRun {
 public:
  /// Makes tokenizer, token files and model, or takes them from the run's last checkpoint. The
  /// folder is created; without `resume` a run that is in it is removed, once the new one can
  /// begin. `config_text` is recorded as `config.toml`. `model.vocab_size` 0 becomes the
  /// tokenizer's. Throws `Error` for options that are not possible, for text without a token to
  /// predict, and for fewer steps than a run that goes on has done.
  TrainingRun(
      const std::filesystem::path& folder,
      const DecoderOptions& model,
      const TrainerOptions& options,
      const std::string& config_text,
      bool resume,
      TrainingCallbacks callbacks);

  /// Trains until step `stop_after`, the last step, or `should_stop`; then saves. Returns
  /// whether the run is finished.
  bool train(int64_t stop_after);

  /// The evaluation of the last step; nothing before the end.
  const std::optional<Evaluation>& final_evaluation() const {
    return evaluation_;
  }
  const Trainer& trainer() const {
    return *trainer_;
  }
  const TrainingData& data() const {
    return data_;
  }

 private:
  void start(const DecoderOptions& model);
  void resume();
  void keep_companions(const std::filesystem::path& model_folder);
  void note_differences(const TrainingState& state) const;
  void after_step(StepMetrics& metrics);
  void check_rebalancing() const;
  void watch_routing(StepMetrics& metrics);
  void rebalance(StepMetrics& metrics);
  std::vector<EvaluationDomain> held_out() const;
  void evaluate_held_out(StepMetrics& metrics);
  void stop_if_collapsed(const StepMetrics& metrics);
  void save(bool is_best);

  RunFolder folder_;
  TrainerOptions options_;
  std::string config_text_;
  TrainingCallbacks callbacks_;
  int64_t threads_;
  std::optional<Tokenizer> tokenizer_;
  std::vector<std::pair<std::string, std::string>> companions_; ///< names and texts of files
  TrainingData data_;
  std::optional<Trainer> trainer_;
  std::optional<MetricsFile> metrics_;
  std::optional<TensorBoardFile> board_;
  std::optional<Evaluation> evaluation_;
  std::optional<CollapseMonitor> monitor_;
  StateDict held_out_experts_; ///< of the last evaluation, as in `TrainingState::routing`
  std::optional<double> best_loss_;
  std::optional<int64_t> best_step_;
  int64_t saved_step_ = -1;
  std::string family_;  ///< architecture of the folder that the model comes from, if any
  ConfigExtras origin_; ///< what else that folder's configuration says
};

} // namespace moe
