#include "moe/kernels/cpu_norm.h"

#include <algorithm>

#include "moe/kernels/cpu_norm_row.h"

// The compiler vectorises the loops, sums among them (see the options of this file), for each
// of the instruction sets; the one to run is chosen when the program is loaded.

namespace moe::cpu {
namespace {

[[gnu::always_inline]] inline void rotate(
    int64_t dim,
    int64_t half,
    const float* __restrict cos,
    const float* __restrict sin,
    const float* __restrict x,
    float* __restrict y) {
  for (int64_t i = 0; i < half; ++i) {
    y[i] = x[i] * cos[i] - x[i + half] * sin[i];
    y[i + half] = x[i + half] * cos[i] + x[i] * sin[i];
  }
  for (int64_t i = 2 * half; i < dim; ++i) {
    y[i] = x[i];
  }
}

[[gnu::always_inline]] inline void rotate_back(
    int64_t dim,
    int64_t half,
    const float* __restrict cos,
    const float* __restrict sin,
    const float* __restrict x,
    float* __restrict y) {
  for (int64_t i = 0; i < half; ++i) {
    y[i] = x[i] * cos[i] + x[i + half] * sin[i];
    y[i + half] = x[i + half] * cos[i] - x[i] * sin[i];
  }
  for (int64_t i = 2 * half; i < dim; ++i) {
    y[i] = x[i];
  }
}

/// The row of a token's head among the queries [.., H, head_dim] or the keys that follow them.
template <typename Pointer>
[[gnu::always_inline]] inline Pointer head_row(
    const HeadShape& shape, int64_t token, int64_t head, Pointer queries, Pointer keys) {
  return head < shape.num_heads
             ? queries + (token * shape.num_heads + head) * shape.head_dim
             : keys + (token * shape.num_kv_heads + head - shape.num_heads) * shape.head_dim;
}

} // namespace

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void norm_rows(
    int64_t rows,
    int64_t width,
    float epsilon,
    const float* x,
    const float* weight,
    float* y,
    float* roots) {
  for (int64_t row = 0; row < rows; ++row) {
    roots[row] = norm_row(width, epsilon, x + row * width, weight, y + row * width);
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void norm_rows_backward(
    int64_t rows,
    int64_t width,
    const float* gradient,
    const float* x,
    const float* weight,
    const float* roots,
    float* x_gradient,
    float* weight_gradient) {
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t at = row * width;
    norm_row_backward(
        width, roots[row], gradient + at, x + at, weight, x_gradient + at, weight_gradient);
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void turn_heads(
    int64_t tokens,
    int64_t position,
    const HeadShape& shape,
    const HeadTurn& turn,
    const HeadRows& rows) {
  const int64_t dim = shape.head_dim;
  const int64_t half = turn.rotary_dim / 2;
  float normed[kMaxHeadDim];
  for (int64_t token = 0; token < tokens; ++token) {
    const float* x = rows.projected + token * shape.width();
    const float* const cos = turn.cos + (position + token) * half;
    const float* const sin = turn.sin + (position + token) * half;
    for (int64_t head = 0; head < shape.normed(); ++head, x += dim) {
      const bool is_query = head < shape.num_heads;
      float* const y = head_row(shape, token, head, rows.queries, rows.keys);
      if (turn.query_weight == nullptr) {
        rotate(dim, half, cos, sin, x, y);
        continue;
      }
      rows.roots[token * shape.normed() + head] = norm_row(
          dim, turn.epsilon, x, is_query ? turn.query_weight : turn.key_weight, normed);
      rotate(dim, half, cos, sin, normed, y);
    }
    const int64_t size = shape.num_kv_heads * dim;
    std::copy_n(x, size, rows.values + token * size);
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void turn_heads_backward(
    int64_t tokens,
    int64_t position,
    const HeadShape& shape,
    const HeadTurn& turn,
    const HeadRows& rows,
    const HeadGradients& gradients) {
  const int64_t dim = shape.head_dim;
  const int64_t half = turn.rotary_dim / 2;
  float turned[kMaxHeadDim];
  for (int64_t token = 0; token < tokens; ++token) {
    const float* x = rows.projected + token * shape.width();
    float* out = gradients.projected + token * shape.width();
    const float* const cos = turn.cos + (position + token) * half;
    const float* const sin = turn.sin + (position + token) * half;
    for (int64_t head = 0; head < shape.normed(); ++head, x += dim, out += dim) {
      const bool is_query = head < shape.num_heads;
      const float* const gradient =
          head_row(shape, token, head, gradients.queries, gradients.keys);
      if (turn.query_weight == nullptr) {
        rotate_back(dim, half, cos, sin, gradient, out);
        continue;
      }
      rotate_back(dim, half, cos, sin, gradient, turned);
      norm_row_backward(
          dim,
          rows.roots[token * shape.normed() + head],
          turned,
          x,
          is_query ? turn.query_weight : turn.key_weight,
          out,
          is_query ? gradients.query_weight : gradients.key_weight);
    }
    const int64_t size = shape.num_kv_heads * dim;
    std::copy_n(gradients.values + token * size, size, out);
  }
}

} // namespace moe::cpu
