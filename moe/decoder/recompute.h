#pragma once

#include <torch/types.h>

#include <functional>
#include <vector>

#include "moe/decoder/decoder_block.h"

namespace moe {

/// A function of one tensor and of parameters that it holds itself.
using RecomputedFunction = std::function<std::vector<torch::Tensor>(const torch::Tensor&)>;

/// `function(input)`, of which only `input` and the results are kept for the backward pass:
/// there the function is computed once more, under the same autocast and with the same random
/// numbers of LibTorch's default generator, and must give the same results. Gradients are the
/// same bits as without. Those of the parameters are added to their `grad()`
/// (`torch::autograd::grad` does not see them), that of `input` flows on. Results must be
/// defined. Differentiable once.
std::vector<torch::Tensor> recompute_in_backward(
    const RecomputedFunction& function, const torch::Tensor& input);

/// `block->forward(hidden, context, token_ids)`, of which only `hidden` and the routing are
/// kept. `context` must have no state; its documents are copied.
DecoderBlockOutput forward_recomputed(
    const std::shared_ptr<DecoderBlockImpl>& block,
    const torch::Tensor& hidden,
    const SequenceContext& context,
    const torch::Tensor& token_ids);

} // namespace moe
