#pragma once

#include <torch/types.h>

#include "moe/kernels/dispatch.h"
#include "moe/kernels/expert_form.h"

namespace moe {

/// The stacked weights of E experts of width F in a model of width D.
struct ExpertWeights {
  torch::Tensor
      up; ///< gated: `gate_up_proj` [E, 2F, D], gate rows first; else `up_proj` [E, F, D]
  torch::Tensor down;      ///< `down_proj` [E, D, F]
  torch::Tensor up_bias;   ///< [E, 2F] or [E, F]; undefined without biases
  torch::Tensor down_bias; ///< [E, D]; undefined without biases
};

/// How `expert_mlp` computes.
enum class ExpertPath {
  reference, ///< ATen operations per expert; any device and data type
  cpu,       ///< tiled kernels with a backward pass of their own; float32 on the CPU, every
             ///< form; not differentiable twice
};

/// The path that `expert_mlp` takes for this input. It depends on device and data type, never
/// on a timing; under autocast it is the reference. The kernels of the cpu path run on
/// any processor: LibTorch chooses their instructions.
ExpertPath expert_path(const torch::Tensor& input, const ExpertWeights& weights);

/// Runs every row of `rows` through its expert and adds the weighted results up by token:
///
///     output[t] = sum over rows r of token t of row_weight[r] · expert_r(input[t])
///
/// `input` [T, D] -> [T, D]. Differentiable in the input, the weights and `rows.row_weight`. An
/// expert without rows has a gradient of zeros. Summation order is fixed (experts ascending,
/// rows ascending), so on the cpu path the result is the same bits for any number of threads;
/// on the reference path as far as LibTorch's matrix product gives that.
torch::Tensor expert_mlp(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form);

/// The same by a dozen readable ATen operations per expert: what the fast paths are tested
/// with.
torch::Tensor expert_mlp_reference(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form);

} // namespace moe
