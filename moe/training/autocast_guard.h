#pragma once

#include <ATen/autocast_mode.h>
#include <torch/types.h>

namespace moe {

/// Computes in `type` while it lives: LibTorch's autocast for one device, restored and its
/// cache of converted weights dropped at the end. Does nothing for float32.
class AutocastGuard {
 public:
  AutocastGuard(c10::DeviceType device, torch::ScalarType type)
      : device_(device),
        was_enabled_(at::autocast::is_autocast_enabled(device)),
        old_type_(at::autocast::get_autocast_dtype(device)) {
    if (type != torch::kFloat32) {
      at::autocast::set_autocast_enabled(device, true);
      at::autocast::set_autocast_dtype(device, type);
    }
    at::autocast::increment_nesting();
  }
  ~AutocastGuard() {
    if (at::autocast::decrement_nesting() == 0) {
      at::autocast::clear_cache();
    }
    at::autocast::set_autocast_enabled(device_, was_enabled_);
    at::autocast::set_autocast_dtype(device_, old_type_);
  }
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  c10::DeviceType device_;
  bool was_enabled_;
  torch::ScalarType old_type_;
};

} // namespace moe
