#pragma once

#include <cstdint>

#include "moe/kernels/float16.h"

namespace moe {

/// Attention of one query to some tokens:
///
///     out = sum over t of softmax(scale · keys[t] · query) · values[t]
///
/// `query` and `out` [head_dim], `keys` and `values` [length, head_dim], contiguous; `scores`
/// [length + 1] is overwritten. `length` is at least 1. `sink`, unless null, is a score more in
/// the softmax, without a value.
void attend_row(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* sink,
    const float* query,
    const float* keys,
    const float* values,
    float* scores,
    float* out);

/// The same with keys and values that take half of the memory, which is what a token waits for
/// in a long text.
void attend_row(
    int64_t length,
    int64_t head_dim,
    float scale,
    const float* sink,
    const float* query,
    const Float16* keys,
    const Float16* values,
    float* scores,
    float* out);

} // namespace moe
