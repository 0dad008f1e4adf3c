#pragma once

#include "moe/kernels/cross_entropy.h"

// Private to moe/kernels; not installed.

namespace moe::cpu {

/// `cross_entropy` of float32 or bfloat16, `rows` and `head` alike, with results of float32;
/// everything contiguous, `weights` float32.
CrossEntropy cross_entropy(
    const at::Tensor& rows,
    const at::Tensor& head,
    const at::Tensor& targets,
    const at::Tensor& weights,
    bool need_gradient);

} // namespace moe::cpu
