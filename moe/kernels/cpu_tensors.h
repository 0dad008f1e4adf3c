#pragma once

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>

// Private to moe/kernels; not installed.

namespace moe::cpu {

/// Whether a tensor is strided, on the CPU and of this type.
inline bool is_plain(const at::Tensor& tensor, at::ScalarType type) {
  return tensor.is_cpu() && tensor.scalar_type() == type && tensor.layout() == at::kStrided;
}

/// What the kernels of this folder compute with.
inline bool is_plain_float(const at::Tensor& tensor) {
  return is_plain(tensor, at::kFloat);
}

/// The same, or what an operation under autocast made of it.
inline bool is_float_or_autocast(const at::Tensor& tensor) {
  return is_plain_float(tensor) ||
         (at::autocast::is_autocast_enabled(at::kCPU) &&
          is_plain(tensor, at::autocast::get_autocast_dtype(at::kCPU)));
}

/// The type of tensors of what products read: float, or uint16_t for bfloat16.
template <typename Element>
constexpr at::ScalarType kTensorType = at::kFloat;
template <>
inline constexpr at::ScalarType kTensorType<uint16_t> = at::kBFloat16;

/// The values of a float32 tensor; null if it is undefined or empty.
inline const float* data_or_null(const at::Tensor& tensor) {
  return tensor.defined() && tensor.numel() > 0 ? tensor.const_data_ptr<float>() : nullptr;
}

/// An autograd node's tensors must be defined: an empty one of the type of `like` stands for
/// none.
inline at::Tensor contiguous_or_empty(const at::Tensor& tensor, const at::Tensor& like) {
  return tensor.defined() ? tensor.contiguous() : at::empty({0}, like.options());
}

} // namespace moe::cpu
