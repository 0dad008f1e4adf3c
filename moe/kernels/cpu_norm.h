#pragma once

#include <cstdint>

// Private to moe/kernels; not installed.

namespace moe::cpu {

/// `norm_row` of cpu_norm_row.h for the rows of x [rows, width] -> y; `roots` [rows].
void norm_rows(
    int64_t rows,
    int64_t width,
    float epsilon,
    const float* x,
    const float* weight,
    float* y,
    float* roots);

/// Its derivative; `weight_gradient` [width] is added to.
void norm_rows_backward(
    int64_t rows,
    int64_t width,
    const float* gradient,
    const float* x,
    const float* weight,
    const float* roots,
    float* x_gradient,
    float* weight_gradient);

/// The widest head of `turn_heads`.
constexpr int64_t kMaxHeadDim = 512;

/// The heads of some tokens. A token's projection holds H queries, then Hkv keys, then Hkv
/// values, each [head_dim]; the results lie apart, [.., H, head_dim] and [.., Hkv, head_dim].
struct HeadShape {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;

  int64_t normed() const {
    return num_heads + num_kv_heads;
  }
  int64_t width() const {
    return (num_heads + 2 * num_kv_heads) * head_dim;
  }
};

/// How queries and keys are normed and turned: pair (i, i + rotary_dim / 2) of the token at
/// position p by the angle whose `cos` and `sin` are in row p, [.., rotary_dim / 2]. Elements
/// from `rotary_dim` on are not turned.
struct HeadTurn {
  const float* query_weight; ///< [head_dim]; null: no norm
  const float* key_weight;
  float epsilon;
  int64_t rotary_dim;
  const float* cos;
  const float* sin;
};

struct HeadRows {
  const float* projected; ///< [tokens, width()]
  float* queries;
  float* keys;
  float* values;
  float* roots; ///< [tokens, normed()]; null without norm
};

/// `positions` of consecutive tokens are consecutive, starting at `position`.
void turn_heads(
    int64_t tokens,
    int64_t position,
    const HeadShape& shape,
    const HeadTurn& turn,
    const HeadRows& rows);

struct HeadGradients {
  const float* queries; ///< gradients of the results, laid out as they are
  const float* keys;
  const float* values;
  float* projected;    ///< [tokens, width()]
  float* query_weight; ///< [head_dim]: added to; null without norm
  float* key_weight;
};

void turn_heads_backward(
    int64_t tokens,
    int64_t position,
    const HeadShape& shape,
    const HeadTurn& turn,
    const HeadRows& rows,
    const HeadGradients& gradients);

} // namespace moe::cpu
