#pragma once

#include <cstdint>

namespace moe {

/// Attention of one query to some tokens:
///
///     out = sum over t of softmax(scale · keys[t] · query) · values[t]
///
/// `query` and `out` [head_dim], `keys` and `values` [length, head_dim], contiguous; `scores`
/// [length] is overwritten. `length` is at least 1.
void attend_row(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* query,
    const float* keys,
    const float* values,
    float* scores,
    float* out);

} // namespace moe
