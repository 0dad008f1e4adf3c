#include "moe/kernels/cpu_attention.h"

#include <array>
#include <cmath>

#include "moe/kernels/cpu_softmax.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_transpose.h"

// The backward pass of one head of one sequence is one task: it walks the strips of keys and,
// within a strip, the blocks of queries that see it. G is the gradient of the output O:
//
//     P^T  [keys, lanes] = e^(S^T − log of the sum)
//     dS^T [keys, lanes] = P^T · (V · G^T − sum over head_dim of G · O)
//     dV [keys, head_dim]    += P^T · G
//     dK [keys, head_dim]    += dS^T · (scale · Q)
//     dQ^T [head_dim, lanes] += K^T · dS^T           times scale at the end
//
// A sink has the probability e^(sink − log of the sum) and the gradient − that · sum of G · O.

namespace moe::cpu {
namespace {

/// What a thread works in. Blocks of queries lie one after the other.
struct AttentionBackwardScratch {
  explicit AttentionBackwardScratch(const AttentionShape& shape)
      : padded((shape.length + 15) / 16 * 16),
        query_columns(0),
        gradient_columns(query_columns + padded * shape.head_dim),
        query_rows(gradient_columns + padded * shape.head_dim),
        gradient_rows(query_rows + padded * shape.head_dim),
        query_gradients(gradient_rows + padded * shape.head_dim),
        log_sums(query_gradients + padded * shape.head_dim),
        products(log_sums + padded),
        probabilities(products + padded),
        score_gradients(probabilities + kStripKeys * kQueryLanes),
        key_rows(score_gradients + kStripKeys * kQueryLanes),
        value_rows(key_rows + kStripKeys * shape.head_dim),
        key_columns(value_rows + kStripKeys * shape.head_dim),
        key_gradient(key_columns + kStripKeys * shape.head_dim),
        value_gradient(key_gradient + kStripKeys * shape.head_dim),
        size(value_gradient + kStripKeys * shape.head_dim) {}

  int64_t padded;
  int64_t query_columns;    ///< (scale · Q)^T, blocks of [head_dim, lanes]
  int64_t gradient_columns; ///< G^T, likewise
  int64_t query_rows;       ///< scale · Q [padded, head_dim]
  int64_t gradient_rows;    ///< G [padded, head_dim]
  int64_t query_gradients;  ///< dQ^T, blocks of [head_dim, lanes]
  int64_t log_sums;         ///< [padded]
  int64_t products;         ///< sum over head_dim of G · O [padded]
  int64_t probabilities;    ///< P^T [keys, lanes]
  int64_t score_gradients;  ///< dS^T [keys, lanes]
  int64_t key_rows;         ///< K [keys, head_dim]
  int64_t value_rows;       ///< V [keys, head_dim]
  int64_t key_columns;      ///< K^T [head_dim, keys]
  int64_t key_gradient;     ///< dK [keys, head_dim]
  int64_t value_gradient;   ///< dV [keys, head_dim]
  int64_t size;
};

/// One head of one sequence. Matrices are [S, head_dim].
struct HeadTask {
  Visibility visible;
  ConstMatrix queries, keys, values, output, output_gradient;
  const float* log_sums; ///< [S]
  const float* sink;     ///< null for none
  Matrix query_gradient, key_gradient, value_gradient;
  float* sink_gradient;
};

ConstMatrix rows_from(ConstMatrix matrix, int64_t row) {
  return {matrix.data + row * matrix.stride, matrix.stride};
}

Matrix rows_from(Matrix matrix, int64_t row) {
  return {matrix.data + row * matrix.stride, matrix.stride};
}

/// The sum of a[i] · b[i], in eight parts, so that it is vectorised.
float dot(int64_t count, const float* __restrict a, const float* __restrict b) {
  std::array<float, 8> parts{};
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    for (int64_t j = 0; j < 8; ++j) {
      parts[j] += a[i + j] * b[i + j];
    }
  }
  float sum = 0.0F;
  for (const float part : parts) {
    sum += part;
  }
  for (; i < count; ++i) {
    sum += a[i] * b[i];
  }
  return sum;
}

/// Everything that depends on the queries alone.
void prepare_queries(const AttentionShape& shape, const HeadTask& task, float* scratch) {
  const AttentionBackwardScratch layout(shape);
  const auto dim = shape.head_dim;
  for (int64_t first = 0; first < shape.length; first += kQueryLanes) {
    const QueryBlock block(first, shape.length);
    pack_columns(
        block,
        rows_from(task.queries, first),
        dim,
        shape.scale,
        scratch + layout.query_columns + first * dim);
    pack_columns(
        block,
        rows_from(task.output_gradient, first),
        dim,
        /*factor=*/1.0F,
        scratch + layout.gradient_columns + first * dim);
  }
  for (int64_t i = 0; i < layout.padded; ++i) {
    float* const query = scratch + layout.query_rows + i * dim;
    float* const gradient = scratch + layout.gradient_rows + i * dim;
    if (i >= shape.length) {
      std::fill_n(query, dim, 0.0F);
      std::fill_n(gradient, dim, 0.0F);
      scratch[layout.log_sums + i] = 0.0F;
      scratch[layout.products + i] = 0.0F;
      continue;
    }
    const float* const from = rows_from(task.queries, i).data;
    std::transform(from, from + dim, query, [&](float x) { return shape.scale * x; });
    std::copy_n(rows_from(task.output_gradient, i).data, dim, gradient);
    scratch[layout.log_sums + i] = task.log_sums[i];
    scratch[layout.products + i] = dot(dim, gradient, rows_from(task.output, i).data);
  }
  std::fill_n(scratch + layout.query_gradients, layout.padded * dim, 0.0F);
}

/// Adds what one strip gives to dQ, and writes its dK and dV.
void differentiate_strip(
    const AttentionShape& shape, const HeadTask& task, int64_t key, float* scratch) {
  const AttentionBackwardScratch layout(shape);
  const auto dim = shape.head_dim;
  const auto num_keys = std::min(kStripKeys, shape.length - key);
  float* const keys = scratch + layout.key_rows;
  float* const values = scratch + layout.value_rows;
  float* const probabilities = scratch + layout.probabilities;
  float* const score_gradients = scratch + layout.score_gradients;
  float* const key_columns = scratch + layout.key_columns;
  float* const key_gradient = scratch + layout.key_gradient;
  float* const value_gradient = scratch + layout.value_gradient;
  copy_rows(rows_from(task.keys, key), num_keys, dim, keys);
  copy_rows(rows_from(task.values, key), num_keys, dim, values);
  transpose({keys, dim}, num_keys, dim, {key_columns, num_keys});
  std::fill_n(key_gradient, num_keys * dim, 0.0F);
  std::fill_n(value_gradient, num_keys * dim, 0.0F);
  const int64_t end = task.visible.ends[key + num_keys - 1];
  for (int64_t first = key / kQueryLanes * kQueryLanes; first < end; first += kQueryLanes) {
    const QueryBlock block(first, shape.length);
    const Strip strip(block, task.visible, key, num_keys);
    const auto lane = first + strip.first;
    const auto columns = first * dim + strip.first;
    const ConstMatrix p{probabilities, strip.lanes};
    const ConstMatrix ds{score_gradients, strip.lanes};
    gemm(
        num_keys,
        strip.lanes,
        dim,
        {keys, dim},
        {scratch + layout.query_columns + columns, block.lanes},
        {probabilities, strip.lanes},
        Store::overwrite);
    gemm(
        num_keys,
        strip.lanes,
        dim,
        {values, dim},
        {scratch + layout.gradient_columns + columns, block.lanes},
        {score_gradients, strip.lanes},
        Store::overwrite);
    softmax_gradient(
        num_keys,
        strip.lanes,
        scratch + layout.log_sums + lane,
        scratch + layout.products + lane,
        probabilities,
        score_gradients);
    strip.hide(block, task.visible, 0.0F, probabilities);
    strip.hide(block, task.visible, 0.0F, score_gradients);
    gemm(
        num_keys,
        dim,
        strip.lanes,
        p,
        {scratch + layout.gradient_rows + lane * dim, dim},
        {value_gradient, dim},
        Store::add);
    gemm(
        num_keys,
        dim,
        strip.lanes,
        ds,
        {scratch + layout.query_rows + lane * dim, dim},
        {key_gradient, dim},
        Store::add);
    gemm(
        dim,
        strip.lanes,
        num_keys,
        {key_columns, num_keys},
        ds,
        {scratch + layout.query_gradients + columns, block.lanes},
        Store::add);
  }
  for (int64_t i = 0; i < num_keys; ++i) {
    std::copy_n(key_gradient + i * dim, dim, rows_from(task.key_gradient, key + i).data);
    std::copy_n(value_gradient + i * dim, dim, rows_from(task.value_gradient, key + i).data);
  }
}

void differentiate_head(const AttentionShape& shape, const HeadTask& task, float* scratch) {
  const AttentionBackwardScratch layout(shape);
  const auto dim = shape.head_dim;
  prepare_queries(shape, task, scratch);
  for (int64_t key = 0; key < shape.length; key += kStripKeys) {
    differentiate_strip(shape, task, key, scratch);
  }
  for (int64_t first = 0; first < shape.length; first += kQueryLanes) {
    const QueryBlock block(first, shape.length);
    float* const gradient = scratch + layout.query_gradients + first * dim;
    std::transform(gradient, gradient + dim * block.lanes, gradient, [&](float x) {
      return shape.scale * x;
    });
    transpose({gradient, block.lanes}, dim, block.rows, rows_from(task.query_gradient, first));
  }
  if (task.sink != nullptr) {
    float sum = 0.0F;
    for (int64_t i = 0; i < shape.length; ++i) {
      sum -= std::exp(*task.sink - task.log_sums[i]) * scratch[layout.products + i];
    }
    *task.sink_gradient = sum;
  }
}

/// Adds up the gradients of the heads that share keys: [B, S, H, head_dim] -> [B, S, Hkv,
/// head_dim].
at::Tensor add_groups(const AttentionShape& shape, const at::Tensor& by_head) {
  const auto group = shape.num_heads / shape.num_kv_heads;
  if (group == 1) {
    return by_head;
  }
  const auto sum = at::empty(
      {shape.batch, shape.length, shape.num_kv_heads, shape.head_dim}, by_head.options());
  const float* const from = by_head.const_data_ptr<float>();
  float* const to = sum.mutable_data_ptr<float>();
  run_tasks(shape.batch * shape.length, /*scratch_size=*/0, [&](int64_t token, float*) {
    for (int64_t head = 0; head < shape.num_heads; ++head) {
      const float* const row = from + (token * shape.num_heads + head) * shape.head_dim;
      float* const out =
          to + (token * shape.num_kv_heads + shape.kv_head(head)) * shape.head_dim;
      for (int64_t d = 0; d < shape.head_dim; ++d) {
        out[d] = head % group == 0 ? row[d] : out[d] + row[d];
      }
    }
  });
  return sum;
}

} // namespace

AttentionGradients attention_backward(
    const AttentionShape& shape,
    const at::Tensor& output_gradient,
    const at::Tensor& queries,
    const at::Tensor& keys,
    const at::Tensor& values,
    const at::Tensor& ends,
    const at::Tensor& sinks,
    const at::Tensor& output,
    const at::Tensor& log_sums) {
  const auto by_head = [&] {
    return at::empty(
        {shape.batch, shape.length, shape.num_heads, shape.head_dim}, queries.options());
  };
  const auto query_gradient = by_head();
  const auto key_gradient = by_head();
  const auto value_gradient = by_head();
  const bool has_sinks = sinks.numel() > 0;
  const auto sink_gradient =
      at::empty({has_sinks ? shape.batch : 0, shape.num_heads}, queries.options());
  const HeadsView q(queries);
  const HeadsView k(keys);
  const HeadsView v(values);
  const HeadsView o(output);
  const HeadsView g(output_gradient);
  const HeadsView dq(query_gradient.transpose(1, 2));
  const HeadsView dk(key_gradient.transpose(1, 2));
  const HeadsView dv(value_gradient.transpose(1, 2));
  const int32_t* const all_ends = ends.const_data_ptr<int32_t>();
  const float* const all_log_sums = log_sums.const_data_ptr<float>();
  const float* const sink = has_sinks ? sinks.const_data_ptr<float>() : nullptr;
  float* const sink_gradients = has_sinks ? sink_gradient.mutable_data_ptr<float>() : nullptr;
  const auto compute = [&](int64_t task, float* scratch) {
    const auto batch = task / shape.num_heads;
    const auto head = task % shape.num_heads;
    const auto kv_head = shape.kv_head(head);
    differentiate_head(
        shape,
        {{all_ends + (ends.size(0) > 1 ? batch * shape.length : 0)},
         q.rows(batch, head, 0),
         k.rows(batch, kv_head, 0),
         v.rows(batch, kv_head, 0),
         o.rows(batch, head, 0),
         g.rows(batch, head, 0),
         all_log_sums + task * shape.length,
         has_sinks ? sink + head : nullptr,
         dq.mutable_rows(batch, head, 0),
         dk.mutable_rows(batch, head, 0),
         dv.mutable_rows(batch, head, 0),
         has_sinks ? sink_gradients + task : nullptr},
        scratch);
  };
  run_tasks(shape.batch * shape.num_heads, AttentionBackwardScratch(shape).size, compute);
  return {
      query_gradient.transpose(1, 2),
      add_groups(shape, key_gradient).transpose(1, 2),
      add_groups(shape, value_gradient).transpose(1, 2),
      has_sinks ? sink_gradient.sum(0) : sink_gradient};
}

} // namespace moe::cpu
