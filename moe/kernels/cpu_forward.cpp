#include "moe/kernels/cpu_activation.h"
#include "moe/kernels/cpu_expert_mlp.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rows.h"
#include "moe/kernels/cpu_tasks.h"
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
        size(weights + kMaxLanes) {}

  int64_t inputs;  ///< X^T [D, lanes]
  int64_t hidden;  ///< H^T [F, lanes]
  int64_t chunk;   ///< P^T of a chunk [2, chunk, lanes], then Y^T of a chunk [chunk, lanes]
  int64_t weights; ///< row weights [lanes]
  int64_t size;
};

} // namespace

ForwardResult forward(
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    bool keep_preactivations) {
  const auto sizes = sizes_of(input, rows, weights);
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
  const float* up = weights.up.const_data_ptr<float>();
  const float* down = weights.down.const_data_ptr<float>();
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

    const float* const tile_up = up + tile.expert * sizes.up_width * dim;
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
            {tile_up + row * dim, dim},
            {inputs, lanes},
            {to, lanes},
            Store::overwrite);
        return to;
      };
      const float* gate = project(f, chunk);
      const float* ungated =
          form.gated ? project(width + f, chunk + kForwardChunk * kMaxLanes) : nullptr;
      activation_forward(form, count, lanes, {gate, ungated, lane_weight, hidden + f * lanes});
    }

    const float* const tile_down = down + tile.expert * dim * width;
    for (int64_t d = 0; d < dim; d += kForwardChunk) {
      const auto count = std::min(kForwardChunk, dim - d);
      gemm(
          count,
          lanes,
          width,
          {tile_down + d * width, width},
          {hidden, lanes},
          {chunk, lanes},
          Store::overwrite);
      transpose({chunk, lanes}, count, tile.rows, {result + tile.first_row * dim + d, dim});
    }
  };
  run_tasks(static_cast<int64_t>(plan.tiles.size()), layout.size, compute_tile);
  return {combine(results, rows.token_rows), preactivations};
}

} // namespace moe::cpu
