#include "moe/generation/module_session.h"

#include <algorithm>

#include "moe/evaluation/eval_mode_guard.h"

namespace moe {

ModuleSession::ModuleSession(DecoderLM model, std::string reason)
    : model_(std::move(model)), reason_(std::move(reason)) {}

void ModuleSession::begin(int64_t num_sequences, int64_t capacity) {
  const torch::InferenceMode inference;
  check_begin(num_sequences, capacity);
  sequences_.clear();
  for (int64_t i = 0; i < num_sequences; ++i) {
    sequences_.push_back(model_->make_state(/*batch_size=*/1, capacity));
  }
  logits_.resize(static_cast<size_t>(num_sequences * model_->options.vocab_size));
}

std::span<float> ModuleSession::prefill(int64_t sequence, std::span<const int32_t> ids) {
  check_prefill(sequences_.size(), sequence, ids);
  const torch::InferenceMode inference;
  const EvalModeGuard eval_mode(*model_);
  // A tensor of its own: a state may keep it.
  const auto input = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end()))
                         .unsqueeze(0)
                         .to(model_->embedding->weight.device());
  auto output = model_->forward(input, sequences_.at(sequence)); // hidden [1, S, D]
  last_routing_ = std::move(output.routing);
  const auto logits = model_->logits(output.hidden.select(1, -1))
                          .squeeze(0)
                          .to(torch::kCPU, torch::kFloat32)
                          .contiguous(); // [V]
  float* const out = logits_.data() + sequence * logits.numel();
  std::copy_n(logits.const_data_ptr<float>(), logits.numel(), out);
  return {out, static_cast<size_t>(logits.numel())};
}

std::span<float> ModuleSession::decode(std::span<const int32_t> ids) {
  check_decode(sequences_.size(), ids);
  for (size_t i = 0; i < ids.size(); ++i) {
    prefill(static_cast<int64_t>(i), ids.subspan(i, 1));
  }
  return {logits_.data(), ids.size() * static_cast<size_t>(model_->options.vocab_size)};
}

std::string ModuleSession::description() const {
  return "modules (" + reason_ + ")";
}

int64_t ModuleSession::weight_bytes() const {
  const auto count = count_parameters(model_->options);
  return count.total * model_->embedding->weight.element_size();
}

int64_t ModuleSession::active_weight_bytes() const {
  const auto count = count_parameters(model_->options);
  return count.active * model_->embedding->weight.element_size();
}

const DecoderOptions& ModuleSession::options() const {
  return model_->options;
}

} // namespace moe
