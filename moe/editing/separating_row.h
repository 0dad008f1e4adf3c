#pragma once

#include <torch/types.h>

namespace moe {

/// Inputs that a row of a router should tell apart.
struct Separation {
  torch::Tensor inputs;  ///< [T, D]
  torch::Tensor signs;   ///< [T] float64: 1 where the row's product should be above the margin,
                         ///< -1 where it should be below minus the margin
  torch::Tensor margins; ///< [T] float64
  torch::Tensor weights; ///< [T] float64: how much an input counts
  /// The width of the bend between an input that is right and one that is wrong, in the units
  /// of the product: about that far beside its margin an input ceases to matter.
  double softness = 1.0;
};

/// The row w [D] float64 that minimises
///
///     sum over t of weight_t · log(1 + exp((margin_t − sign_t · w · x_t) / softness))
///         + ridge/2 · s · |w|²
///
/// with s the mean square of the inputs: logistic regression without intercept, by Newton's
/// method.
torch::Tensor fit_separating_row(const Separation& separation, double ridge = 1e-4);

} // namespace moe
