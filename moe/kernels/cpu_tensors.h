#pragma once

#include <ATen/ATen.h>

// Private to moe/kernels; not installed.

namespace moe::cpu {

/// What the kernels of this folder compute with: strided float32 on the CPU.
inline bool is_plain_float(const at::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == at::kFloat &&
         tensor.layout() == at::kStrided;
}

} // namespace moe::cpu
