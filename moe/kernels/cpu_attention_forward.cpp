#include "moe/kernels/cpu_attention.h"

#include <cmath>
#include <limits>

#include "moe/kernels/cpu_softmax.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_transpose.h"

namespace moe::cpu {
namespace {

/// Keys whose maximum is taken before anything is added up: 64 KiB of scores.
constexpr int64_t kBlockKeys = 256;

/// What a thread works in.
struct AttentionScratch {
  explicit AttentionScratch(int64_t head_dim)
      : queries(0),
        sums_of_values(queries + head_dim * kQueryLanes),
        scores(sums_of_values + head_dim * kQueryLanes),
        maximum(scores + kBlockKeys * kQueryLanes),
        old_maximum(maximum + kQueryLanes),
        sum(old_maximum + kQueryLanes),
        size(sum + kQueryLanes) {}

  int64_t queries;        ///< (scale · Q)^T [head_dim, lanes]
  int64_t sums_of_values; ///< O^T [head_dim, lanes]
  int64_t scores;         ///< S^T, then P^T: strips, each [keys, lanes]
  int64_t maximum;        ///< [lanes]
  int64_t old_maximum;    ///< [lanes]
  int64_t sum;            ///< [lanes]
  int64_t size;
};

/// The left factors of both products, strip by strip: each K [keys, head_dim], then V^T
/// [head_dim, keys]. Where they lie in a tensor, a power of two apart, they share few lines of
/// the cache.
at::Tensor pack_strips(
    const AttentionShape& shape, const HeadsView& keys, const HeadsView& values) {
  const auto dim = shape.head_dim;
  const auto num_heads = shape.batch * shape.num_kv_heads;
  const auto result = at::empty({num_heads, shape.length, 2 * dim}, at::kFloat);
  float* const all = result.mutable_data_ptr<float>();
  const auto num_strips = (shape.length + kStripKeys - 1) / kStripKeys;
  run_tasks(num_heads * num_strips, /*scratch_size=*/0, [&](int64_t task, float*) {
    const auto head = task / num_strips;
    const auto key = task % num_strips * kStripKeys;
    const auto count = std::min(kStripKeys, shape.length - key);
    const auto batch = head / shape.num_kv_heads;
    float* const to = all + (head * shape.length + key) * 2 * dim;
    copy_rows(keys.rows(batch, head % shape.num_kv_heads, key), count, dim, to);
    const auto from = values.rows(batch, head % shape.num_kv_heads, key);
    transpose(from, count, dim, {to + count * dim, count});
  });
  return result;
}

/// One block of queries of one head.
struct BlockOfHead {
  QueryBlock block;
  Visibility visible;
  ConstMatrix queries; ///< [rows, head_dim]
  const float* strips; ///< of `pack_strips`
  const float* sink;   ///< null for none
  Matrix output;       ///< [rows, head_dim]
  float* log_sums;     ///< [rows]
};

void attend_block(const AttentionShape& shape, const BlockOfHead& task, float* scratch) {
  const AttentionScratch layout(shape.head_dim);
  const auto& block = task.block;
  float* const queries = scratch + layout.queries;
  float* const output = scratch + layout.sums_of_values;
  float* const maximum = scratch + layout.maximum;
  float* const old_maximum = scratch + layout.old_maximum;
  float* const sum = scratch + layout.sum;
  pack_columns(block, task.queries, shape.head_dim, shape.scale, queries);
  std::fill_n(output, shape.head_dim * block.lanes, 0.0F);
  // Finite, so that a lane that sees nothing of the first strips does not become NaN.
  std::fill_n(maximum, block.lanes, task.sink != nullptr ? *task.sink : -1e30F);
  std::fill_n(sum, block.lanes, task.sink != nullptr ? 1.0F : 0.0F);

  const auto end = block.first + block.rows;
  const auto first_key = task.visible.first_key(block.first) / kStripKeys * kStripKeys;
  for (int64_t from = first_key; from < end; from += kBlockKeys) {
    const auto to = std::min(from + kBlockKeys, end);
    const auto for_each_strip = [&](const auto& body) {
      for (int64_t key = from; key < to; key += kStripKeys) {
        const auto num_keys = std::min(kStripKeys, shape.length - key);
        const Strip strip(block, task.visible, key, num_keys);
        if (strip.lanes > 0) {
          body(strip, scratch + layout.scores + (key - from) * kQueryLanes);
        }
      }
    };
    std::copy_n(maximum, block.lanes, old_maximum);
    for_each_strip([&](const Strip& strip, float* scores) {
      gemm(
          strip.keys,
          strip.lanes,
          shape.head_dim,
          {task.strips + strip.key * 2 * shape.head_dim, shape.head_dim},
          {queries + strip.first, block.lanes},
          {scores, strip.lanes},
          Store::overwrite);
      strip.hide(block, task.visible, -std::numeric_limits<float>::infinity(), scores);
      raise_maximum(strip.keys, strip.lanes, scores, maximum + strip.first);
    });
    rescale(shape.head_dim, block.lanes, maximum, old_maximum, sum, output);
    for_each_strip([&](const Strip& strip, float* scores) {
      exponentiate(strip.keys, strip.lanes, scores, maximum + strip.first, sum + strip.first);
      strip.hide(block, task.visible, 0.0F, scores);
      gemm(
          shape.head_dim,
          strip.lanes,
          strip.keys,
          {task.strips + (strip.key * 2 + strip.keys) * shape.head_dim, strip.keys},
          {scores, strip.lanes},
          {output + strip.first, block.lanes},
          Store::add);
    });
  }
  for (int64_t d = 0; d < shape.head_dim; ++d) {
    for (int64_t i = 0; i < block.lanes; ++i) {
      output[d * block.lanes + i] /= sum[i];
    }
  }
  transpose({output, block.lanes}, shape.head_dim, block.rows, task.output);
  for (int64_t i = 0; i < block.rows; ++i) {
    task.log_sums[i] = maximum[i] + std::log(sum[i]);
  }
}

} // namespace

void copy_rows(ConstMatrix from, int64_t rows, int64_t width, float* to) {
  for (int64_t i = 0; i < rows; ++i) {
    std::copy_n(from.data + i * from.stride, width, to + i * width);
  }
}

void pack_columns(
    const QueryBlock& block, ConstMatrix rows, int64_t width, float factor, float* out) {
  transpose(rows, block.rows, width, {out, block.lanes});
  for (int64_t d = 0; d < width; ++d) {
    float* const row = out + d * block.lanes;
    std::fill(row + block.rows, row + block.lanes, 0.0F);
    for (int64_t i = 0; i < block.lanes; ++i) {
      row[i] *= factor;
    }
  }
}

void attention_forward(
    const AttentionShape& shape,
    const at::Tensor& queries,
    const at::Tensor& keys,
    const at::Tensor& values,
    const at::Tensor& ends,
    const at::Tensor& sinks,
    const at::Tensor& output,
    const at::Tensor& log_sums) {
  const auto packed = pack_strips(shape, HeadsView(keys), HeadsView(values));
  const float* const strips = packed.const_data_ptr<float>();
  const HeadsView all_queries(queries);
  const HeadsView all_outputs(output);
  float* const all_log_sums = log_sums.mutable_data_ptr<float>();
  const float* const sink = sinks.numel() > 0 ? sinks.const_data_ptr<float>() : nullptr;
  const int32_t* const all_ends = ends.const_data_ptr<int32_t>();
  const auto num_heads = shape.batch * shape.num_heads;
  const auto num_blocks = (shape.length + kQueryLanes - 1) / kQueryLanes;
  const auto compute = [&](int64_t task, float* scratch) {
    // The last queries see most: their blocks come first.
    const auto first = (num_blocks - 1 - task / num_heads) * kQueryLanes;
    const auto batch = task % num_heads / shape.num_heads;
    const auto head = task % num_heads % shape.num_heads;
    const auto kv = batch * shape.num_kv_heads + shape.kv_head(head);
    attend_block(
        shape,
        {QueryBlock(first, shape.length),
         {all_ends + (ends.size(0) > 1 ? batch * shape.length : 0)},
         all_queries.rows(batch, head, first),
         strips + kv * shape.length * 2 * shape.head_dim,
         sink != nullptr ? sink + head : nullptr,
         all_outputs.mutable_rows(batch, head, first),
         all_log_sums + (batch * shape.num_heads + head) * shape.length + first},
        scratch);
  };
  run_tasks(num_heads * num_blocks, AttentionScratch(shape.head_dim).size, compute);
}

} // namespace moe::cpu
