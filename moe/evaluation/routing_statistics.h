#pragma once

#include <cstdint>
#include <vector>

namespace moe {

/// How evenly one MoE layer uses its experts.
struct LayerRouting {
  int64_t layer = 0;
  /// Each expert's share of the rows; sums to 1.
  std::vector<double> load;
  /// Largest load divided by the mean load, minus 1; 0 is even.
  double max_violation = 0.0;
  /// Entropy of the load divided by ln E; 1 is even.
  double entropy = 1.0;
  /// Share of experts with less than 1 % of the mean load.
  double dead = 0.0;
};

/// The statistics of layer `layer` from the rows that each expert got. Without any rows the
/// load is taken as even.
LayerRouting layer_routing(int64_t layer, const std::vector<int64_t>& counts);

} // namespace moe
