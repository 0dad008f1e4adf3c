#pragma once

#include <cstdint>

namespace moe {

/// What is the same for all elements of a parameter in one step of AdamW.
struct AdamWStep {
  float beta1 = 0.0f;
  float beta2 = 0.0f;
  float epsilon = 0.0f;
  float gradient_scale = 1.0f;
  float keep = 1.0f;                     ///< 1 - lr · weight_decay
  float step_size = 0.0f;                ///< lr / (1 - beta1^steps)
  float inverse_sqrt_correction2 = 1.0f; ///< 1 / sqrt(1 - beta2^steps)
};

/// Moves `size` elements in one pass.
void adamw_step(
    float* parameter,
    float* exp_avg,
    float* exp_avg_sq,
    const float* gradient,
    int64_t size,
    const AdamWStep& constants);

/// Σ values², in double precision.
double squared_sum(const float* values, int64_t size);

} // namespace moe
