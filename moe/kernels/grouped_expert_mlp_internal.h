#pragma once

#include "moe/kernels/expert_mlp.h"

// The path of `expert_mlp` for CUDA devices, by `at::_grouped_mm`: one product of all rows with
// the weights of their experts. A group is the rows of an expert, [n, ...] of [N, ...]:
//
//     X [N, D]  = input, gathered
//     P [N, 2F] = X · up^T + up_bias             kept for the backward pass, with the input
//     H [N, F]  = row_weight · activation(P)
//     Y [N, D]  = H · down^T + row_weight · down_bias
//
// and the output is the sum of each token's rows of Y. A product is rounded before a bias is
// added to it, unlike in `at::linear`. The backward pass, from the gradient dY, which is that
// of the output, gathered:
//
//     dH = dY · down,  d down = dY^T · H by expert,  d row_weight = dH · activation(P) by row
//     dP = activation'(P) · row_weight · dH,  d up = dP^T · X by expert,  dX = dP · up
//
// Where the rows of an expert begin stays on the device. LibTorch multiplies all groups at once
// in bfloat16 on compute capabilities 9 and 10; otherwise, and on the CPU, it takes one group
// after the other, and on a device waits for where they begin.

namespace moe::grouped {

/// Whether `at::_grouped_mm` takes these on a CUDA device: bfloat16, fewer than 1024 experts,
/// and rows that begin at multiples of 16 bytes.
bool supports(const torch::Tensor& input, const ExpertWeights& weights);

/// `expert_mlp` as one differentiable operation. On the CPU float32 is possible as well.
torch::Tensor expert_mlp(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form);

} // namespace moe::grouped
