#include "moe/evaluation/routing_statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace moe {

LayerRouting layer_routing(int64_t layer, const std::vector<int64_t>& counts) {
  const auto num_experts = static_cast<double>(counts.size());
  LayerRouting routing;
  routing.layer = layer;
  routing.rows = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  const auto rows = static_cast<double>(routing.rows);
  double entropy = 0.0;
  double dead = 0.0;
  for (const int64_t count : counts) {
    const double load = rows > 0 ? static_cast<double>(count) / rows : 1.0 / num_experts;
    routing.load.push_back(load);
    entropy -= load > 0 ? load * std::log(load) : 0.0;
    dead += load * num_experts < 0.01 ? 1.0 : 0.0;
  }
  const double largest = *std::max_element(routing.load.begin(), routing.load.end());
  routing.max_violation = largest * num_experts - 1.0;
  routing.entropy = counts.size() > 1 ? entropy / std::log(num_experts) : 1.0;
  routing.dead = dead / num_experts;
  return routing;
}

} // namespace moe
