#pragma once

#include <cstdint>
#include <vector>

namespace moe {

/// The experts that one token chose in one layer, the highest score first.
struct TracedLayer {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

/// Which experts a token went through: one entry per layer with experts.
struct TracedToken {
  int32_t id = 0;
  std::vector<TracedLayer> layers;
};

} // namespace moe
