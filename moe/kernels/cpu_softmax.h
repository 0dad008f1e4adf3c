#pragma once

#include <cstdint>

// Private to moe/kernels/cpu_*.cpp; not installed.

namespace moe::cpu {

/// The largest value of each lane: `values` [rows, lanes]; `maximum` [lanes] is raised.
void raise_maximum(int64_t rows, int64_t lanes, const float* values, float* maximum);

/// Puts e^(value − maximum of the lane) in place of `values` [rows, lanes], which must not
/// exceed `maximum` [lanes], and adds the results up in `sum` [lanes].
void exponentiate(int64_t rows, int64_t lanes, float* values, const float* maximum, float* sum);

/// Turns `values` [size], at least one, into their softmax.
void softmax_row(int64_t size, float* values);

} // namespace moe::cpu
