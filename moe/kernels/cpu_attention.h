#pragma once

#include <ATen/ATen.h>

#include <algorithm>

#include "moe/kernels/cpu_gemm.h"

// Private to moe/kernels; not installed. Causal attention in float32 by blocks of queries and
// strips of keys. As in cpu_expert_mlp.h a block is computed transposed, with the queries in
// the lanes, so that the softmax of a query needs no sum across lanes:
//
//     S^T [keys, lanes]     = K · (scale · Q)^T
//     P^T                   = e^(S^T − maximum)
//     O^T [head_dim, lanes] = V^T · P^T             divided by the sum of P^T at the end
//
// A strip is computed only for the lanes that see one of its keys.

namespace moe::cpu {

/// Queries that are computed together, and keys of a strip. They fix the order of sums.
constexpr int64_t kQueryLanes = 64;
constexpr int64_t kStripKeys = 64;

struct AttentionShape {
  int64_t batch;
  int64_t length;
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  float scale;

  int64_t kv_head(int64_t head) const {
    return head / (num_heads / num_kv_heads);
  }
};

/// A tensor [B, H, S, head_dim] whose vectors are contiguous.
class HeadsView {
 public:
  explicit HeadsView(const at::Tensor& heads)
      : data_(heads.const_data_ptr<float>()),
        batch_(heads.stride(0)),
        head_(heads.stride(1)),
        token_(heads.stride(2)) {}

  /// The vectors of one head from `token` on, one per row.
  ConstMatrix rows(int64_t batch, int64_t head, int64_t token) const {
    return {data_ + batch * batch_ + head * head_ + token * token_, token_};
  }
  /// The same of a tensor that is being written.
  Matrix mutable_rows(int64_t batch, int64_t head, int64_t token) const {
    const auto from = rows(batch, head, token);
    return {const_cast<float*>(from.data), from.stride};
  }

 private:
  const float* data_;
  int64_t batch_;
  int64_t head_;
  int64_t token_;
};

/// Who sees whom in one row of the batch: key k is seen by the queries k to ends[k] - 1. `ends`
/// [S] does not decrease.
struct Visibility {
  const int32_t* ends;

  /// The first key that query `query` sees.
  int64_t first_key(int64_t query) const {
    return std::upper_bound(ends, ends + query, static_cast<int32_t>(query)) - ends;
  }
};

/// Some consecutive queries.
struct QueryBlock {
  QueryBlock(int64_t first_query, int64_t length)
      : first(first_query),
        rows(std::min(kQueryLanes, length - first_query)),
        lanes((rows + 15) / 16 * 16) {}

  int64_t first;
  int64_t rows;
  int64_t lanes; ///< `rows` rounded up to whole vector registers
};

/// The part of a block that a strip of keys meets: lanes [first, first + lanes), contiguous.
struct Strip {
  Strip(const QueryBlock& block, const Visibility& visible, int64_t key, int64_t num_keys)
      : key(key), keys(num_keys) {
    const auto end = std::min(block.first + block.rows, int64_t{visible.ends[key + keys - 1]});
    first = std::max<int64_t>(0, key - block.first) / 16 * 16;
    lanes = (std::max(block.first, end) - block.first + 15) / 16 * 16 - first;
    has_hidden =
        key + keys - 1 > block.first + first || visible.ends[key] < block.first + first + lanes;
  }

  /// Fills what is not seen: `values` [keys, lanes].
  void hide(
      const QueryBlock& block, const Visibility& visible, float value, float* values) const {
    for (int64_t j = 0; has_hidden && j < keys; ++j) {
      float* const row = values + j * lanes;
      const auto lane_of = [&](int64_t query) {
        return std::clamp<int64_t>(query - block.first - first, 0, lanes);
      };
      std::fill(row, row + lane_of(key + j), value);
      std::fill(row + lane_of(visible.ends[key + j]), row + lanes, value);
    }
  }

  int64_t key;
  int64_t keys;
  int64_t first;   ///< multiple of 16
  int64_t lanes;   ///< multiple of 16; 0 or less: nothing is seen
  bool has_hidden; ///< whether some of it is not seen
};

/// Rows that lie apart, put one after the other: [rows, width].
void copy_rows(ConstMatrix from, int64_t rows, int64_t width, float* to);

/// Vectors as columns: `rows` [block.rows, width] -> factor · rows^T [width, block.lanes],
/// zeros past the last row.
void pack_columns(
    const QueryBlock& block, ConstMatrix rows, int64_t width, float factor, float* out);

/// `ends` [1 or B, S] int32 as in `Visibility`; `sinks` [H] or empty. Writes `output` [B, H, S,
/// head_dim] and `log_sums` [B, H, S], the logarithms of the softmax's denominators.
void attention_forward(
    const AttentionShape& shape,
    const at::Tensor& queries,
    const at::Tensor& keys,
    const at::Tensor& values,
    const at::Tensor& ends,
    const at::Tensor& sinks,
    const at::Tensor& output,
    const at::Tensor& log_sums);

struct AttentionGradients {
  at::Tensor queries; ///< [B, H, S, head_dim]
  at::Tensor keys;    ///< [B, Hkv, S, head_dim]
  at::Tensor values;
  at::Tensor sinks; ///< [H]; empty without
};

/// What `attention_forward` took and wrote, and the gradient of its output.
AttentionGradients attention_backward(
    const AttentionShape& shape,
    const at::Tensor& output_gradient,
    const at::Tensor& queries,
    const at::Tensor& keys,
    const at::Tensor& values,
    const at::Tensor& ends,
    const at::Tensor& sinks,
    const at::Tensor& output,
    const at::Tensor& log_sums);

} // namespace moe::cpu
