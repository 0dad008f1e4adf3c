#pragma once

#include <cstdint>

#include "moe/kernels/expert_form.h"

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// What lies between the two projections, for `width` hidden features of the rows of a tile.
/// All matrices are [width, lanes], contiguous; `row_weight` is [lanes].
struct ActivationForward {
  const float* gate; ///< what the activation takes: gate(x), or up(x) without a gate
  const float* up;   ///< up(x); unused without a gate
  const float* row_weight;
  float* hidden; ///< row_weight · activation(gate) · up
};

/// Its derivative. `hidden_gradient` is that of activation(gate) · up for a row weight of one.
struct ActivationBackward {
  const float* gate;
  const float* up;
  const float* row_weight;
  const float* hidden_gradient;
  float* gate_gradient;       ///< row weight included
  float* up_gradient;         ///< row weight included; unused without a gate
  float* weighted_hidden;     ///< row_weight · activation(gate) · up
  float* row_weight_gradient; ///< [lanes]: added to
};

/// Uses AVX2 or AVX-512 where the processor has them.
void activation_forward(
    const ExpertForm& form, int64_t width, int64_t lanes, const ActivationForward& tile);
void activation_backward(
    const ExpertForm& form, int64_t width, int64_t lanes, const ActivationBackward& tile);

} // namespace moe::cpu
