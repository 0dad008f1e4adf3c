#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "moe/training/parameter_groups.h"
#include "moe/training/trainable_rows.h"

namespace moe {

/// Constants of AdamW; the learning rate comes with each step.
struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0.1;
};

/// AdamW with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101). Matrices decay;
/// norms and biases, that is parameters of one dimension and those whose name ends in `bias`,
/// do not. One pass over memory per step, gradient clipping included.
///
/// Example:
/// ```
/// AdamW optimizer(model->named_parameters().pairs(), {.weight_decay = 0.1});
/// loss.backward();
/// const double norm = optimizer.gradient_norm();
/// optimizer.step(lr, /*gradient_scale=*/norm > 1.0 ? 1.0 / norm : 1.0);
/// optimizer.clear_gradients();
/// ```
class AdamW {
 public:
  /// A parameter and its moments, float32.
  struct Slot {
    std::string name;
    torch::Tensor parameter;
    torch::Tensor exp_avg;
    torch::Tensor exp_avg_sq;
    double lr_ratio = 1.0;      ///< of the learning rate of each step
    double weight_decay = 0.0;  ///< 0 for norms and biases
    std::vector<RowRange> rows; ///< that learn
  };

  /// Throws `Error` for impossible options, for rows that a parameter does not have, or for
  /// rows or a group of one that there is not.
  AdamW(
      const std::vector<std::pair<std::string, torch::Tensor>>& parameters,
      const AdamWOptions& options,
      const TrainableRows& trainable = {},
      const ParameterGroups& groups = {});

  /// Euclidean norm of all gradients together; parameters without one count 0. The same bits
  /// for any number of threads on the CPU. Throws `c10::Error` for a gradient that is not
  /// dense.
  double gradient_norm() const;

  /// Moves every parameter that has a gradient; gradients are multiplied by `gradient_scale`
  /// first. Throws `c10::Error` for a gradient that is not dense.
  void step(double lr, double gradient_scale = 1.0);

  void clear_gradients();

  /// Steps taken so far, for the bias correction. Set it together with the moments on resume.
  int64_t steps = 0;

  /// The moments by parameter, in the order of construction.
  const std::vector<Slot>& slots() const {
    return slots_;
  }

 private:
  AdamWOptions options_;
  std::vector<Slot> slots_;
};

} // namespace moe
