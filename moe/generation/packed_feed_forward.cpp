#include "moe/generation/packed_feed_forward.h"

#include "moe/kernels/cpu_expert_mlp.h"

namespace moe {
namespace {

torch::Tensor view_of(const PackedMatrix& matrix) {
  // The tensor is only read.
  auto* data = const_cast<void*>(matrix.weights.get());
  return torch::from_blob(data, {matrix.rows, matrix.columns}, torch::kFloat32);
}

torch::Tensor view_of(const std::vector<float>& values) {
  auto* data = const_cast<float*>(values.data());
  const auto size = static_cast<int64_t>(values.size());
  return values.empty() ? torch::Tensor() : torch::from_blob(data, {size}, torch::kFloat32);
}

torch::Tensor run(
    const PackedExperts& experts,
    const torch::Tensor& normed,
    const torch::Tensor& chosen,    // [T, K]
    const torch::Tensor& weights) { // [T, K]
  const auto rows = dispatch(chosen, weights, experts.experts);
  return cpu::forward_packed(
      normed,
      rows,
      {experts.up,
       experts.down,
       data_or_null(experts.up_bias),
       data_or_null(experts.down_bias)},
      experts.form);
}

} // namespace

PackedFeedForward::PackedFeedForward(const DecoderOptions& options) {
  if (!moe_layers(options).empty()) {
    router_ = TopKRouter(packed_router_options(options));
    router_->eval();
  }
}

torch::Tensor PackedFeedForward::forward(
    const PackedLayer& layer, const torch::Tensor& normed) {
  const auto first = torch::zeros({normed.size(0), 1}, torch::kInt64);
  if (layer.router.rows == 0) {
    return run(layer.experts, normed, first, torch::ones({normed.size(0), 1}));
  }
  router_->weight = view_of(layer.router);
  router_->bias = view_of(layer.router_bias);
  router_->selection_bias = view_of(layer.selection_bias);
  const auto routing = router_(normed);
  const auto output = run(layer.experts, normed, routing.experts, routing.weights);
  if (layer.shared_expert.experts == 0) {
    return output;
  }
  const auto weights =
      layer.shared_expert_gate.rows > 0
          ? torch::sigmoid(torch::linear(normed, view_of(layer.shared_expert_gate)))
          : torch::ones({normed.size(0), 1}); // [T, 1]
  return output + run(layer.shared_expert, normed, first, weights);
}

} // namespace moe
