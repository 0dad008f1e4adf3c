#pragma once

#include <cstdint>
#include <vector>

#include "moe/evaluation/routing_record.h"

namespace moe {

/// How often two experts of a layer serve the same token.
struct CoActivation {
  int64_t num_experts = 0;
  std::vector<int64_t> pairs; ///< [E, E], symmetric: tokens that chose both; 0 on the diagonal
  std::vector<double> expected; ///< [E, E]: if experts were chosen independently

  /// log2 of observed to expected, half a token added to both so that 0 can be shown; positive
  /// where the two work together, negative where they avoid each other.
  double log_ratio(int64_t a, int64_t b) const;
};

/// A token chooses an expert once, so even independent choices make fewer pairs than the
/// product of the shares says. Expected is therefore x_a · x_b for a ≠ b with the x that give
/// each expert as many partners as it has (quasi-independence), found by iteration.
CoActivation co_activation(const RecordedLayer& layer);

} // namespace moe
