#pragma once

#include <ATen/ATen.h>

#include <array>

#include "moe/kernels/expert_mlp.h"
#include "moe/kernels/packed_matrix.h"

// Private to moe/kernels; not installed. The cpu path of `expert_mlp`:
//
// The rows of an expert are cut into tiles of up to 128 (cpu_row_tiles.h). Within a tile every
// matrix is transposed, [width, lanes]. Then the weights, as they are stored, are the left
// factor of both products of the forward pass, and what a tile needs stays in the cache:
//
//     X^T [D, lanes]    gathered from the input
//     P^T [2F, lanes] = up [2F, D] · X^T + up_bias    kept for the backward pass
//     H^T [F, lanes]  = row_weight · activation(gate) · up
//     Y^T [D, lanes]  = down [D, F] · H^T + row_weight · down_bias    rows of [N, D]
//
// and a last pass adds up the rows of each token. A task is a tile, so nothing depends on the
// number of threads but the time. The backward pass is described in cpu_backward.cpp.
//
// Products take float32 or bfloat16. With bfloat16 their factors are rounded just before, all
// weights once per pass, and P^T is kept so; sums, activations and what goes in and out are
// float32.
//
// All tensors are contiguous. Tensors of biases are undefined or empty where there are none.

namespace moe::cpu {

/// What the factors of products are. bfloat16 takes even widths D and F.
enum class Products { float32, bfloat16 };

/// The sizes of the problem. H is the width of `up`: 2F if gated, else F.
struct Sizes {
  int64_t tokens;
  int64_t rows;
  int64_t experts;
  int64_t model_dim;
  int64_t expert_dim;
  int64_t up_width;
};

Sizes sizes_of(const at::Tensor& input, const Dispatch& rows, const ExpertWeights& weights);

struct ForwardResult {
  at::Tensor output;         ///< [T, D]
  at::Tensor preactivations; ///< what the backward pass needs: P^T of all tiles, one after the
                             ///< other, of the type of the products; undefined unless asked
                             ///< for
};

ForwardResult forward(
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    Products products,
    bool keep_preactivations);

/// What `ExpertWeights` are, packed.
struct PackedWeights {
  const PackedMatrix& up;   ///< [E · (2F or F), D]
  const PackedMatrix& down; ///< [E · D, F]
  const float* up_bias;     ///< [E · (2F or F)]; null for none
  const float* down_bias;   ///< [E · D]; null for none
};

/// The forward pass with packed weights: those that are not float32 are unpacked a few rows at
/// a time, while a tile uses them.
at::Tensor forward_packed(
    const at::Tensor& input,
    const Dispatch& rows,
    const PackedWeights& weights,
    const ExpertForm& form);

/// Which gradients are asked for, and the gradients: undefined where not asked for.
struct GradientMask {
  bool input, row_weight, up, down, up_bias, down_bias;
};
struct Gradients {
  at::Tensor input;      ///< [T, D]
  at::Tensor row_weight; ///< [N]
  at::Tensor up;         ///< [E, 2F or F, D]
  at::Tensor down;       ///< [E, D, F]
  at::Tensor up_bias;    ///< [E, 2F or F]
  at::Tensor down_bias;  ///< [E, D]
};

/// Its products are of the type of `preactivations`.
Gradients backward(
    const at::Tensor& output_gradient,
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    const at::Tensor& preactivations,
    const GradientMask& mask);

/// Both as one differentiable operation.
at::Tensor expert_mlp(
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    Products products);

} // namespace moe::cpu
