#pragma once

#include <torch/types.h>

#include "moe/kernels/expert_form.h"

namespace moe {

/// The hidden layer of an expert from the result of its first projection, by ATen operations.
///
/// `projected` [..., 2F] if gated, gate first, else [..., F] -> [..., F].
torch::Tensor activate(const torch::Tensor& projected, const ExpertForm& form);

/// The gradient of `projected`, of its shape, from that of the hidden layer [..., F].
torch::Tensor activate_backward(
    const torch::Tensor& gradient, const torch::Tensor& projected, const ExpertForm& form);

} // namespace moe
