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

/// Sums of e^(value − old maximum), and what they weighted, become sums of e^(value − maximum):
/// multiplies `sum` [lanes] and `weighted` [rows, lanes] by e^(old − new). `old_maximum` is
/// written over.
void rescale(
    int64_t rows,
    int64_t lanes,
    const float* maximum,
    float* old_maximum,
    float* sum,
    float* weighted);

/// The derivative of a softmax whose lane i has `log_sum`[i] as the logarithm of its sum and
/// `product`[i] as the sum of probability · gradient. Puts the probabilities in place of
/// `scores` and the gradients of the scores in place of `gradients`, both [rows, lanes].
void softmax_gradient(
    int64_t rows,
    int64_t lanes,
    const float* log_sum,
    const float* product,
    float* scores,
    float* gradients);

} // namespace moe::cpu
