#pragma once

#include <optional>
#include <string>
#include <vector>

#include "moe/checkpoint/training_state.h"
#include "moe/data/token_dataset.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/training/adamw.h"
#include "moe/training/lora.h"
#include "moe/training/metrics.h"
#include "moe/training/routing_objective.h"
#include "moe/training/trainer_options.h"

namespace moe {

/// Seed of LibTorch's default generators, from which routers draw, in the step after
/// `steps_done`.
uint64_t noise_seed(int64_t seed, int64_t steps_done);

/// Trains a model, one optimizer step at a time. Batch, learning rate and everything else of a
/// step are functions of its number, so weights, moments and that number are all there is to
/// save. Each step seeds LibTorch's default generators, from which routers draw.
///
/// Example:
/// ```
/// Trainer trainer(model, dataset, options);
/// while (trainer.steps_done() < options.steps) {
///   StepMetrics metrics = trainer.step();
/// }
/// ```
class Trainer {
 public:
  /// Moves `model` to the device of the options. Throws `Error` for impossible options, a
  /// device that is not there, or data too short for one sequence or of a larger vocabulary
  /// than the model's.
  /// `new_experts` are those that the options mean by `new-experts`.
  Trainer(
      DecoderLM model,
      TokenDataset data,
      const TrainerOptions& options,
      const NewExperts& new_experts = {});

  /// Does the next step, in training mode and from gradients of its own: those that the
  /// parameters have already are dropped.
  ///
  /// 1. forward and backward over `accumulation_steps` batches; the loss is the mean
  /// cross-entropy
  ///    plus the routing losses that have a weight;
  /// 2. gradient norm; a loss or norm that is not finite throws `Error`, or skips the update if
  ///    `on_nonfinite` is `skip`. A step that threw can be done again after a repair;
  /// 3. clipping and the AdamW update at the learning rate of this step, and that of the
  ///    routers' selection biases, if there are any.
  StepMetrics step();

  int64_t steps_done() const {
    return steps_done_;
  }
  /// Steps whose update was skipped because something was not finite.
  int64_t steps_skipped() const {
    return steps_skipped_;
  }
  DecoderLM model() const {
    return model_;
  }
  /// The adapters that learn instead of the weights, with `lora_rank`.
  const std::optional<LoraAdapters>& lora() const {
    return lora_;
  }

  /// Gives `dead` experts of a layer parts of the busiest ones (`revive_experts`), by what the
  /// experts took in the last steps' batches. A function of seed and step. Throws `Error` for a
  /// layer without experts or before the first step, `c10::Error` as `revive_experts` does.
  Revival revive(int64_t layer, const std::vector<int64_t>& dead);

  /// Step number, tokens, moments and, of adapters, their matrices and the weights that they
  /// change; the other fields are the caller's. The tensors are the trainer's own, to be saved
  /// or cloned before the next step: it changes them.
  TrainingState state() const;

  /// Goes on where `state` was taken. Throws `Error` when it is of another model.
  void restore(const TrainingState& state);

 private:
  struct Sums;
  RoutedBatch routed(const Batch& batch, std::vector<Routing> routing) const;
  void look_ahead(const Batch& batch, Sums& sums);
  void accumulate(const Batch& batch, double normalizer, Sums& sums);
  void update_selection_biases(const std::vector<torch::Tensor>& counts);
  torch::Tensor recent_expert_inputs(int64_t layer);
  bool is_finite_or_fail(const char* what, double value) const;

  DecoderLM model_;
  TokenDataset data_;
  TrainerOptions options_;
  torch::Device device_;
  RoutingObjective routing_objective_;
  TrainableRows trainable_;
  std::optional<LoraAdapters> lora_;
  AdamW optimizer_;
  int64_t steps_done_ = 0;
  int64_t steps_skipped_ = 0;
  int64_t tokens_ = 0;
};

} // namespace moe
