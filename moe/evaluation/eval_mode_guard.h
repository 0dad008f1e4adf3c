#pragma once

#include <torch/nn/module.h>

namespace moe {

/// Puts a module into eval mode while it lives, then back into training mode if it was in that.
/// Does nothing to one in eval mode, so that threads may share it.
class EvalModeGuard {
 public:
  explicit EvalModeGuard(torch::nn::Module& module)
      : module_(module), was_training_(module.is_training()) {
    if (was_training_) {
      module_.eval();
    }
  }
  ~EvalModeGuard() {
    if (was_training_) {
      module_.train();
    }
  }
  EvalModeGuard(const EvalModeGuard&) = delete;
  EvalModeGuard& operator=(const EvalModeGuard&) = delete;

 private:
  torch::nn::Module& module_;
  bool was_training_;
};

} // namespace moe
