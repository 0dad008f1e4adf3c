#include "moe/generation/tracing_session.h"

namespace moe {
namespace {

/// A layer's routing on the host, as types that can be walked.
struct HostRouting {
  torch::Tensor experts; // [T, K] int32
  torch::Tensor weights; // [T, K] float32
};

TracedLayer traced_layer(const HostRouting& routing, int64_t token) {
  const int64_t per_token = routing.experts.size(1);
  const int32_t* const experts = routing.experts.const_data_ptr<int32_t>() + token * per_token;
  const float* const weights = routing.weights.const_data_ptr<float>() + token * per_token;
  TracedLayer layer;
  for (int64_t k = 0; k < per_token; ++k) {
    if (experts[k] >= 0) { // negative: none
      layer.experts.push_back(experts[k]);
      layer.weights.push_back(weights[k]);
    }
  }
  return layer;
}

} // namespace

TracingSession::TracingSession(DecoderLM model, TokenCallback on_token)
    : ModuleSession(std::move(model), "trace of experts"), on_token_(std::move(on_token)) {}

std::span<float> TracingSession::prefill(int64_t sequence, std::span<const int32_t> ids) {
  const auto logits = ModuleSession::prefill(sequence, ids);
  std::vector<HostRouting> layers;
  const torch::InferenceMode inference;
  for (const auto& routing : last_routing()) {
    auto experts = routing.experts; // [T, K]
    if (routing.kept.defined()) {
      experts = experts.masked_fill(routing.kept.logical_not(), -1);
    }
    layers.push_back(
        {experts.to(torch::kCPU, torch::kInt32).contiguous(),
         routing.weights.to(torch::kCPU, torch::kFloat32).contiguous()});
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    TracedToken token;
    token.id = ids[i];
    for (const auto& layer : layers) {
      token.layers.push_back(traced_layer(layer, static_cast<int64_t>(i)));
    }
    on_token_(token);
  }
  return logits;
}

} // namespace moe
