#include "moe/kernels/cpu_activation.h"
#include "moe/kernels/cpu_expert_mlp.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rows.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/cpu_transpose.h"

namespace moe::cpu {
namespace {

// So many features are computed, then used, while they are in the first- and second-level
// caches.
constexpr int64_t kForwardChunk = 64;

/// What a thread works in.
struct ForwardScratch {
  explicit ForwardScratch(const Sizes& sizes)
      : inputs(0),
        hidden(inputs + sizes.model_dim * kMaxLanes),
        chunk(hidden + sizes.expert_dim * kMaxLanes),
        weights(chunk + 2 * kForwardChunk * kMaxLanes),
        unpacked(weights + kMaxLanes),
        size(unpacked + kForwardChunk * std::max(sizes.model_dim, sizes.expert_dim)) {}

  int64_t inputs;   ///< X^T [D, lanes]
  int64_t hidden;   ///< H^T [F, lanes]
  int64_t chunk;    ///< P^T of a chunk [2, chunk, lanes], then Y^T of a chunk [chunk, lanes]
  int64_t weights;  ///< row weights [lanes]
  int64_t unpacked; ///< rows of packed weights [chunk, D or F]
  int64_t size;
};

/// Rows of a matrix as float32: where they lie, or unpacked into `space`.
const float* rows_of(const PackedMatrix& matrix, int64_t first, int64_t count, float* space) {
  if (matrix.type == WeightType::float32) {
    return static_cast<const float*>(matrix.weights.get()) + first * matrix.stride;
  }
  unpack_rows(matrix, first, count, space);
  return space;
}

/// Adds bias[row] · weight[lane] to `to` [count, lanes]; without weights, the bias.
void add_bias(const float* bias, const float* weight, int64_t count, int64_t lanes, float* to) {
  for (int64_t row = 0; row < count; ++row, to += lanes) {
    for (int64_t i = 0; i < lanes; ++i) {
      to[i] += weight != nullptr ? bias[row] * weight[i] : bias[row];
    }
  }
}

/// A view that does not keep the weights alive.
PackedMatrix borrow(const at::Tensor& weights) {
  const int64_t columns = weights.size(-1);
  return view_matrix(
      {std::shared_ptr<const float>(), weights.const_data_ptr<float>()},
      weights.numel() / columns,
      columns);
}

ForwardResult forward_tiles(
    const at::Tensor& input,
    const Dispatch& rows,
    const PackedWeights& weights,
    const ExpertForm& form,
    const Sizes& sizes,
    bool keep_preactivations) {
  const auto plan = make_row_tiles(rows.offsets.const_data_ptr<int32_t>(), sizes.experts);
  const auto results = at::empty({sizes.rows, sizes.model_dim}, input.options());
  at::Tensor preactivations;
  float* kept = nullptr;
  if (keep_preactivations) {
    preactivations = at::empty({plan.num_lanes * sizes.up_width}, input.options());
    kept = preactivations.mutable_data_ptr<float>();
  }
  const float* x = input.const_data_ptr<float>();
  const int32_t* row_token = rows.row_token.const_data_ptr<int32_t>();
  const float* row_weight = rows.row_weight.const_data_ptr<float>();
  float* result = results.mutable_data_ptr<float>();
  const auto dim = sizes.model_dim;
  const auto width = sizes.expert_dim;
  const ForwardScratch layout(sizes);

  const auto compute_tile = [&](int64_t task, float* scratch) {
    const RowTile& tile = plan.tiles[plan.largest_first[task]];
    const auto lanes = tile.lanes;
    float* const inputs = scratch + layout.inputs;
    float* const hidden = scratch + layout.hidden;
    float* const chunk = scratch + layout.chunk;
    float* const lane_weight = scratch + layout.weights;
    gather_transposed(tile, row_token, x, dim, inputs);
    gather_weights(tile, row_weight, lane_weight);

    float* const unpacked = scratch + layout.unpacked;
    const int64_t first_up = tile.expert * sizes.up_width;
    float* const tile_kept =
        kept != nullptr ? kept + tile.first_lane * sizes.up_width : nullptr;
    for (int64_t f = 0; f < width; f += kForwardChunk) {
      const auto count = std::min(kForwardChunk, width - f);
      // The features from `row` on of gate or up, into their place or into the scratch.
      const auto project = [&](int64_t row, float* spare) {
        float* to = tile_kept != nullptr ? tile_kept + row * lanes : spare;
        gemm(
            count,
            lanes,
            dim,
            {rows_of(weights.up, first_up + row, count, unpacked), dim},
            {inputs, lanes},
            {to, lanes},
            Store::overwrite);
        if (weights.up_bias != nullptr) {
          add_bias(weights.up_bias + first_up + row, nullptr, count, lanes, to);
        }
        return to;
      };
      const float* gate = project(f, chunk);
      const float* ungated =
          form.gated ? project(width + f, chunk + kForwardChunk * kMaxLanes) : nullptr;
      activation_forward(form, count, lanes, {gate, ungated, lane_weight, hidden + f * lanes});
    }

    for (int64_t d = 0; d < dim; d += kForwardChunk) {
      const auto count = std::min(kForwardChunk, dim - d);
      const auto first_down = tile.expert * dim + d;
      gemm(
          count,
          lanes,
          width,
          {rows_of(weights.down, first_down, count, unpacked), width},
          {hidden, lanes},
          {chunk, lanes},
          Store::overwrite);
      if (weights.down_bias != nullptr) {
        add_bias(weights.down_bias + first_down, lane_weight, count, lanes, chunk);
      }
      transpose({chunk, lanes}, count, tile.rows, {result + tile.first_row * dim + d, dim});
    }
  };
  run_tasks(static_cast<int64_t>(plan.tiles.size()), layout.size, compute_tile);
  return {combine(results, rows.token_rows), preactivations};
}

} // namespace

ForwardResult forward(
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    bool keep_preactivations) {
  const PackedWeights borrowed{
      borrow(weights.up),
      borrow(weights.down),
      data_or_null(weights.up_bias),
      data_or_null(weights.down_bias)};
  return forward_tiles(
      input, rows, borrowed, form, sizes_of(input, rows, weights), keep_preactivations);
}

at::Tensor forward_packed(
    const at::Tensor& input,
    const Dispatch& rows,
    const PackedWeights& weights,
    const ExpertForm& form) {
  Sizes sizes{};
  sizes.tokens = input.size(0);
  sizes.rows = rows.row_token.numel();
  sizes.experts = rows.offsets.numel() - 1;
  sizes.model_dim = input.size(1);
  sizes.expert_dim = weights.down.columns;
  sizes.up_width = weights.up.rows / sizes.experts;
  return forward_tiles(input, rows, weights, form, sizes, /*keep_preactivations=*/false).output;
}

} // namespace moe::cpu
