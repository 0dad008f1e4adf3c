#pragma once

#include <torch/types.h>

#include <vector>

#include "moe/evaluation/routing_statistics.h"
#include "moe/layers/routing.h"

namespace moe {

/// Adds up what the routers of a model decide, batch by batch, without waiting for the device.
///
/// Example:
/// ```
/// RoutingCounter counter;
/// counter.add(model->forward(ids).routing);
/// std::vector<LayerRouting> statistics = counter.statistics(moe_layers(model->options));
/// ```
class RoutingCounter {
 public:
  /// Adds a batch: `layers` holds one routing per MoE layer, always in the same order. With
  /// `token_mask` [T] bool, only tokens where it is true count.
  void add(const std::vector<Routing>& layers, const torch::Tensor& token_mask = {});

  /// The statistics of everything added; `layers` are the numbers of the MoE layers. Waits for
  /// the device.
  std::vector<LayerRouting> statistics(const std::vector<int64_t>& layers) const;

 private:
  struct Sums {
    torch::Tensor rows;       ///< [E] int64, dropped ones included
    torch::Tensor dropped;    ///< int64
    torch::Tensor confidence; ///< float64, summed over tokens
    torch::Tensor tokens;     ///< int64
  };

  std::vector<Sums> sums_;
};

} // namespace moe
