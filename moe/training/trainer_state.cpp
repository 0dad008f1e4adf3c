#include "moe/error.h"
#include "moe/libtorch.h"
#include "moe/training/trainer.h"

namespace moe {
namespace {

void copy_saved(torch::Tensor destination, const StateDict& saved, const std::string& name) {
  const auto* source = saved.find(name);
  check(source != nullptr, "training state: there is no ", name);
  check(
      source->sizes() == destination.sizes(),
      "training state: ",
      name,
      " has the shape ",
      source->sizes(),
      ", the model needs ",
      destination.sizes());
  const torch::NoGradGuard no_grad;
  destination.copy_(*source);
}

/// What is saved of adapters: A, B and the weights without them.
std::vector<std::pair<std::string, torch::Tensor>> saved_adapters(
    const std::optional<LoraAdapters>& lora) {
  std::vector<std::pair<std::string, torch::Tensor>> tensors;
  if (lora) {
    for (const auto& adapter : lora->adapters()) {
      tensors.emplace_back("lora_base/" + adapter.name, adapter.base);
      tensors.emplace_back("lora_a/" + adapter.name, adapter.a.detach());
      tensors.emplace_back("lora_b/" + adapter.name, adapter.b.detach());
    }
  }
  return tensors;
}

} // namespace

TrainingState Trainer::state() const {
  TrainingState state;
  state.step = steps_done_;
  state.tokens = tokens_;
  state.counters["optimizer_steps"] = optimizer_.steps;
  state.counters["skipped_steps"] = steps_skipped_;
  for (const auto& slot : optimizer_.slots()) {
    state.optimizer.insert("exp_avg/" + slot.name, slot.exp_avg);
    state.optimizer.insert("exp_avg_sq/" + slot.name, slot.exp_avg_sq);
  }
  for (const auto& [name, tensor] : saved_adapters(lora_)) {
    state.optimizer.insert(name, tensor);
  }
  return state;
}

void Trainer::restore(const TrainingState& state) {
  for (const auto& slot : optimizer_.slots()) {
    copy_saved(slot.exp_avg, state.optimizer, "exp_avg/" + slot.name);
    copy_saved(slot.exp_avg_sq, state.optimizer, "exp_avg_sq/" + slot.name);
  }
  for (const auto& [name, tensor] : saved_adapters(lora_)) {
    copy_saved(tensor, state.optimizer, name);
  }
  if (lora_) {
    lora_->apply();
  }
  const auto counter = [&](const std::string& name) {
    const auto found = state.counters.find(name);
    check(found != state.counters.end(), "training state: there is no counter ", name);
    return found->second;
  };
  optimizer_.steps = counter("optimizer_steps");
  steps_skipped_ = counter("skipped_steps");
  steps_done_ = state.step;
  tokens_ = state.tokens;
}

} // namespace moe
