#pragma once

#include <torch/types.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "moe/decoder/decoder_options.h"
#include "moe/layers/routing.h"
#include "moe/training/metrics.h"
#include "moe/training/trainer_options.h"

namespace moe {

/// How the layers of a model routed one batch.
struct RoutedBatch {
  /// `all`: one per MoE layer, of B · S tokens. With `mask` [B, S] bool, tokens where it is
  /// false are padding.
  RoutedBatch(std::vector<Routing> all, torch::Tensor mask, int64_t batch_size);

  std::vector<Routing> with_padding;
  std::vector<Routing> layers; ///< without padding
  /// [E] by layer: rows that each expert was chosen for, without padding.
  std::vector<torch::Tensor> counts;
  torch::Tensor token_mask;
  int64_t num_sequences;
};

/// What a step adds up over its batches.
struct RoutingSums {
  std::vector<std::pair<std::string, torch::Tensor>> losses; ///< by name, without weights
  std::vector<torch::Tensor> counts;                         ///< as in `RoutedBatch`
  /// Of all batches, where they were looked at ahead.
  std::vector<torch::Tensor> all_counts;
  int64_t all_tokens = 0;

  /// Into the fields of `metrics` for losses.
  void report(StepMetrics& metrics) const;
};

/// The weighted sum of routing losses that training minimises besides the cross-entropy. A loss
/// is computed if it has a weight; load balancing and z-loss always, since they are reported.
///
/// The losses of a step are the means over its batches, but for the global balance: that is of
/// all tokens of the step together, and so that its gradient is exact, the choices in all
/// batches must be known before the loss of the first.
///
/// Example:
/// ```
/// RoutingSums sums;
/// if (objective.looks_ahead()) {
///   for (const auto& batch : batches) objective.look_ahead(route(batch), sums); // no gradient
/// }
/// for (const auto& batch : batches) {
///   (task_loss(batch) + objective.loss(route(batch), sums)).backward();
/// }
/// ```
class RoutingObjective {
 public:
  /// Throws `Error` for weights that need what the model does not have.
  RoutingObjective(const TrainerOptions& options, const DecoderOptions& model);

  /// Whether every batch must go through `look_ahead` before the first goes through `loss`.
  bool looks_ahead() const {
    return looks_ahead_;
  }

  void look_ahead(const RoutedBatch& batch, RoutingSums& sums) const;

  /// The part of the objective that comes from `batch`; 0 if nothing has a weight. Adds to
  /// `sums`.
  torch::Tensor loss(const RoutedBatch& batch, RoutingSums& sums) const;

 private:
  /// The part of a step's loss that comes from one batch.
  using Loss = std::function<torch::Tensor(const RoutedBatch&, const RoutingSums&)>;
  struct Term {
    std::string name;
    double weight = 0.0;
    Loss loss;
  };

  void add_term(const char* name, double weight, Loss loss, bool always = false);
  void add_device_terms(const TrainerOptions& options, const DecoderOptions& model);
  template <class LayerLoss>
  Loss mean_of(LayerLoss layer_loss) const;

  std::vector<Term> terms_;
  double batch_share_; ///< of a step
  bool looks_ahead_;
};

} // namespace moe
