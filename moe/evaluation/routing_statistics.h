#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace moe {

/// How one MoE layer uses its experts.
struct LayerRouting {
  int64_t layer = 0;
  /// Chosen rows, that is pairs of a token and an expert, dropped ones included.
  int64_t rows = 0;
  /// Each expert's share of the rows; sums to 1.
  std::vector<double> load;
  /// Largest load divided by the mean load, minus 1; 0 is even.
  double max_violation = 0.0;
  /// Entropy of the load divided by ln E; 1 is even.
  double entropy = 1.0;
  /// Share of experts with less than 1 % of the mean load.
  double dead = 0.0;
  /// Share of the rows that were dropped for want of capacity.
  double dropped = 0.0;
  /// How sure the router is: the mean over tokens of the largest softmax of the logits. 1 / E
  /// is undecided, 1 is saturated, whatever the router makes of its logits: to a sigmoid router
  /// it is the best expert's share of the odds s / (1 - s).
  double confidence = 1.0;
  /// Share of the (token, expert) choices on held-out text that were others in the evaluation
  /// before; of evaluations only.
  std::optional<double> churn;
  /// Mean over tokens and pairs of experts of the cosine between the outputs of both experts
  /// for the token: 1 for copies, near 0 for experts that have nothing in common; of
  /// evaluations only.
  std::optional<double> similarity;
};

/// The statistics of layer `layer` from the rows that each expert got. Without any rows the
/// load is taken as even.
LayerRouting layer_routing(int64_t layer, const std::vector<int64_t>& counts);

} // namespace moe
