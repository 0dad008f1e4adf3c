#include "moe/evaluation/trace.h"

#include "moe/error.h"
#include "moe/evaluation/eval_mode_guard.h"

namespace moe {
namespace {

void check_ids(const torch::Tensor& ids, const DecoderOptions& options) {
  check(
      ids.dim() == 2 && ids.scalar_type() == torch::kInt64 && ids.numel() > 0,
      "input_ids: expected int64 [B, S] with at least one token");
  check(
      ids.size(1) <= options.context_length,
      "input_ids: ",
      ids.size(1),
      " tokens are more than the model's context of ",
      options.context_length);
  const int64_t low = ids.min().item<int64_t>();
  const int64_t high = ids.max().item<int64_t>();
  check(
      low >= 0 && high < options.vocab_size,
      "input_ids: the model has no token ",
      low < 0 ? low : high,
      "; its vocabulary has ",
      options.vocab_size);
}

} // namespace

StateDict trace_model(DecoderLM model, const torch::Tensor& ids) {
  check_ids(ids, model->options);
  const torch::NoGradGuard no_grad;
  const EvalModeGuard eval_mode(*model);
  const auto output = model->trace(ids.to(model->embedding->weight.device()));
  const auto on_host = [](const torch::Tensor& tensor) {
    return tensor.to(torch::kCPU, torch::kFloat32).contiguous();
  };
  StateDict tensors;
  tensors.insert("logits", on_host(model->logits(output.hidden)));
  for (size_t i = 0; i < output.hidden_states.size(); ++i) {
    tensors.insert("hidden_states." + std::to_string(i), on_host(output.hidden_states[i]));
  }
  const auto layers = moe_layers(model->options);
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto& routing = output.routing[i];
    const auto by_token = [&](const torch::Tensor& tensor) { // [T, X] -> [B, S, X]
      return tensor.view({ids.size(0), ids.size(1), tensor.size(1)});
    };
    const auto layer = std::to_string(layers[i]);
    tensors.insert("router_logits." + layer, on_host(by_token(routing.logits)));
    tensors.insert("experts." + layer, by_token(routing.experts).to(torch::kCPU).contiguous());
    tensors.insert("weights." + layer, on_host(by_token(routing.weights)));
  }
  return tensors;
}

} // namespace moe
