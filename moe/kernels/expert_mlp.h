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
             ///< form, products in bfloat16 under autocast; not differentiable twice
  grouped, ///< one product for all experts, `at::_grouped_mm`, and a backward pass of its own;
           ///< bfloat16 on CUDA devices, every form; not differentiable twice
};

/// The path that `expert_mlp` takes for this input. It depends on device, data type and sizes,
/// never on a timing.
///
/// The cpu path takes float32 tensors and gives float32; its kernels run on any processor:
/// LibTorch chooses their instructions. Under autocast to bfloat16 on the CPU, where D and F
/// are even, the factors of its products are rounded to bfloat16 and what is kept for the
/// backward pass takes half of the memory; sums, activations, outputs and gradients stay
/// float32. Where the processor has no products of bfloat16, or slow ones, they are computed as
/// float32's, so this is never much slower. Under other autocast ATen's operations obey. The
/// grouped path takes bfloat16 on a CUDA device where D and F are multiples of 8, E is below
/// 1024 and the weights lie at multiples of 16 bytes; neither its forward nor its backward pass
/// makes the host wait, on devices of compute capability 9 and 10. (On others LibTorch computes
/// the product expert by expert and waits for the number of their rows, as it does for float32
/// everywhere, which is therefore left to the reference.)
ExpertPath expert_path(const torch::Tensor& input, const ExpertWeights& weights);

/// Runs every row of `rows` through its expert and adds the weighted results up by token:
///
///     output[t] = sum over rows r of token t of row_weight[r] · expert_r(input[t])
///
/// `input` [T, D] -> [T, D]. Differentiable in the input, the weights and `rows.row_weight`. An
/// expert without rows has a gradient of zeros. Summation order is fixed (experts ascending,
/// rows ascending), so on the cpu path the result is the same bits for any number of threads;
/// on the others as far as LibTorch's matrix product gives that.
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
