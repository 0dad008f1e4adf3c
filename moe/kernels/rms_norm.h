#pragma once

#include <torch/types.h>

namespace moe {

/// Root-mean-square norm of the last dimension: weight · x / sqrt(mean(x²) + epsilon).
///
/// `input` [..., D], `weight` [D] of one type. Differentiable in both. Float32 on the CPU takes
/// one pass forward and one backward; all else is `torch::rms_norm`.
torch::Tensor rms_norm(const torch::Tensor& input, const torch::Tensor& weight, double epsilon);

} // namespace moe
