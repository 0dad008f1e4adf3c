#include <algorithm>
#include <numeric>

#include "moe/kernels/cpu_activation.h"
#include "moe/kernels/cpu_expert_mlp.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rows.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/cpu_transpose.h"
#include "moe/kernels/cpu_weight_gradients.h"

// The backward pass, by tiles as in the forward pass. G is the gradient of the output:
//
//     G^T  [D, lanes]    gathered
//     dH^T [F, lanes]  = down^T [F, D] · G^T       of the hidden layer, for a row weight of one
//     row_weight gradient = sum over F of H · dH + sum over D of down_bias · G,
//                           so the experts' results are not kept
//     dP^T [2F, lanes]   by the derivative of the activation, with the row weight
//     dX^T [D, lanes]  = up^T [D, 2F] · dP^T       rows of [N, D], then added up by token
//
// and, when all tiles are done, by experts (cpu_weight_gradients.h):
//
//     up gradient   [2F, D] = dP^T · X
//     down gradient [D, F]  = transpose of (row_weight · H)^T · G
//     up_bias gradient [2F] = sum over rows of dP
//     down_bias gradient [D] = sum over rows of row_weight · G

namespace moe::cpu {
namespace {

constexpr int64_t kBackwardChunk = 64;

/// What a thread works in.
struct BackwardScratch {
  explicit BackwardScratch(const Sizes& sizes)
      : outputs(0),
        chunk(outputs + sizes.model_dim * kMaxLanes),
        weights(chunk + kBackwardChunk * kMaxLanes),
        weight_gradients(weights + kMaxLanes),
        size(weight_gradients + kMaxLanes) {}

  int64_t outputs;          ///< G^T [D, lanes]
  int64_t chunk;            ///< dH^T, then dX^T, of a chunk [chunk, lanes]
  int64_t weights;          ///< row weights [lanes]
  int64_t weight_gradients; ///< [lanes]
  int64_t size;
};

/// Transposes the weights of each expert that has rows: [E, rows, columns] -> [E, columns,
/// rows].
at::Tensor transpose_experts(const at::Tensor& weights, const RowTiles& plan) {
  constexpr int64_t rows_per_task = 128;
  const auto rows = weights.size(1);
  const auto columns = weights.size(2);
  const auto result = at::empty({weights.size(0), columns, rows}, weights.options());
  const float* from = weights.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  const auto per_expert = (rows + rows_per_task - 1) / rows_per_task;
  run_tasks(weights.size(0) * per_expert, /*scratch_size=*/0, [&](int64_t task, float*) {
    const auto expert = task / per_expert;
    if (plan.first_of_expert[expert] == plan.first_of_expert[expert + 1]) {
      return;
    }
    const auto row = task % per_expert * rows_per_task;
    const auto base = expert * rows * columns;
    transpose(
        {from + base + row * columns, columns},
        std::min(rows_per_task, rows - row),
        columns,
        {to + base + row, rows});
  });
  return result;
}

/// Adds the sum over D of bias · G^T [D, lanes] to `sum` [lanes].
void add_products(
    int64_t dim, int64_t lanes, const float* bias, const float* outputs, float* sum) {
  for (int64_t d = 0; d < dim; ++d, outputs += lanes) {
    for (int64_t i = 0; i < lanes; ++i) {
      sum[i] += bias[d] * outputs[i];
    }
  }
}

/// sum [2F] of dP^T [2F, lanes] of an expert's tiles.
void sum_up_bias(
    const RowTiles& plan, int64_t expert, int64_t width, const float* gradients, float* sum) {
  std::fill_n(sum, width, 0.0F);
  for (auto t = plan.first_of_expert[expert]; t < plan.first_of_expert[expert + 1]; ++t) {
    const RowTile& tile = plan.tiles[t];
    const float* row = gradients + tile.first_lane * width;
    for (int64_t f = 0; f < width; ++f, row += tile.lanes) {
      sum[f] = std::accumulate(row, row + tile.rows, sum[f]);
    }
  }
}

/// sum [D] of row_weight · G of an expert's rows.
void sum_down_bias(
    const Dispatch& rows, int64_t expert, int64_t dim, const float* gradient, float* sum) {
  const int32_t* offsets = rows.offsets.const_data_ptr<int32_t>();
  const int32_t* row_token = rows.row_token.const_data_ptr<int32_t>();
  const float* row_weight = rows.row_weight.const_data_ptr<float>();
  std::fill_n(sum, dim, 0.0F);
  for (auto row = offsets[expert]; row < offsets[expert + 1]; ++row) {
    const float* const g = gradient + row_token[row] * dim;
    for (int64_t d = 0; d < dim; ++d) {
      sum[d] += row_weight[row] * g[d];
    }
  }
}

} // namespace

Gradients backward(
    const at::Tensor& output_gradient,
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    const at::Tensor& preactivations,
    const GradientMask& mask) {
  const auto sizes = sizes_of(input, rows, weights);
  const auto plan = make_row_tiles(rows.offsets.const_data_ptr<int32_t>(), sizes.experts);
  const auto dim = sizes.model_dim;
  const auto width = sizes.expert_dim;
  const auto up_width = sizes.up_width;
  const auto options = input.options();

  const auto down_transposed = transpose_experts(weights.down, plan); // [E, F, D]
  const auto up_transposed =
      mask.input ? transpose_experts(weights.up, plan) : at::Tensor(); // [E, D, 2F]
  const auto results =
      mask.input ? at::empty({sizes.rows, dim}, options) : at::Tensor(); // [N, D]
  const auto up_gradients =
      at::empty({plan.num_lanes * up_width}, options);              // dP^T of all tiles
  const auto hidden = at::empty({plan.num_lanes * width}, options); // (row_weight · H)^T
  Gradients gradients;
  gradients.row_weight = at::empty({sizes.rows}, options);

  const int32_t* row_token = rows.row_token.const_data_ptr<int32_t>();
  const float* row_weight = rows.row_weight.const_data_ptr<float>();
  const float* g = output_gradient.const_data_ptr<float>();
  const float* kept = preactivations.const_data_ptr<float>();
  const float* down = down_transposed.const_data_ptr<float>();
  const float* up = mask.input ? up_transposed.const_data_ptr<float>() : nullptr;
  const float* down_bias = data_or_null(weights.down_bias);
  float* const result = mask.input ? results.mutable_data_ptr<float>() : nullptr;
  float* const all_up_gradients = up_gradients.mutable_data_ptr<float>();
  float* const all_hidden = hidden.mutable_data_ptr<float>();
  float* const row_weight_gradient = gradients.row_weight.mutable_data_ptr<float>();
  const BackwardScratch layout(sizes);

  const auto compute_tile = [&](int64_t task, float* scratch) {
    const RowTile& tile = plan.tiles[plan.largest_first[task]];
    const auto lanes = tile.lanes;
    float* const outputs = scratch + layout.outputs;
    float* const chunk = scratch + layout.chunk;
    float* const lane_weight = scratch + layout.weights;
    float* const lane_gradient = scratch + layout.weight_gradients;
    gather_transposed(tile, row_token, g, dim, outputs);
    gather_weights(tile, row_weight, lane_weight);
    std::fill_n(lane_gradient, lanes, 0.0F);

    const float* const tile_down = down + tile.expert * dim * width;
    const float* const tile_kept = kept + tile.first_lane * up_width;
    float* const tile_gradients = all_up_gradients + tile.first_lane * up_width;
    float* const tile_hidden = all_hidden + tile.first_lane * width;
    for (int64_t f = 0; f < width; f += kBackwardChunk) {
      const auto count = std::min(kBackwardChunk, width - f);
      gemm(
          count,
          lanes,
          dim,
          {tile_down + f * dim, dim},
          {outputs, lanes},
          {chunk, lanes},
          Store::overwrite);
      const auto gate = f * lanes;
      const auto ungated = (width + f) * lanes;
      activation_backward(
          form,
          count,
          lanes,
          {tile_kept + gate,
           form.gated ? tile_kept + ungated : nullptr,
           lane_weight,
           chunk,
           tile_gradients + gate,
           form.gated ? tile_gradients + ungated : nullptr,
           tile_hidden + gate,
           lane_gradient});
    }
    if (down_bias != nullptr) {
      add_products(dim, lanes, down_bias + tile.expert * dim, outputs, lane_gradient);
    }
    std::copy_n(lane_gradient, tile.rows, row_weight_gradient + tile.first_row);

    if (result == nullptr) {
      return;
    }
    const float* const tile_up = up + tile.expert * dim * up_width;
    for (int64_t d = 0; d < dim; d += kBackwardChunk) {
      const auto count = std::min(kBackwardChunk, dim - d);
      gemm(
          count,
          lanes,
          up_width,
          {tile_up + d * up_width, up_width},
          {tile_gradients, lanes},
          {chunk, lanes},
          Store::overwrite);
      transpose({chunk, lanes}, count, tile.rows, {result + tile.first_row * dim + d, dim});
    }
  };
  run_tasks(static_cast<int64_t>(plan.tiles.size()), layout.size, compute_tile);

  if (mask.input) {
    gradients.input = combine(results, rows.token_rows);
  }
  const auto gradient_of = [](bool asked, const at::Tensor& weight) {
    return asked ? at::empty_like(weight) : at::Tensor();
  };
  gradients.up = gradient_of(mask.up, weights.up);
  gradients.down = gradient_of(mask.down, weights.down);
  weight_gradients(
      plan,
      row_token,
      {all_up_gradients,
       input.const_data_ptr<float>(),
       up_width,
       dim,
       mask.up ? gradients.up.mutable_data_ptr<float>() : nullptr,
       /*transposed=*/false},
      {all_hidden,
       g,
       width,
       dim,
       mask.down ? gradients.down.mutable_data_ptr<float>() : nullptr,
       /*transposed=*/true});

  gradients.up_bias = gradient_of(mask.up_bias, weights.up_bias);
  gradients.down_bias = gradient_of(mask.down_bias, weights.down_bias);
  float* const up_bias_gradient =
      mask.up_bias ? gradients.up_bias.mutable_data_ptr<float>() : nullptr;
  float* const down_bias_gradient =
      mask.down_bias ? gradients.down_bias.mutable_data_ptr<float>() : nullptr;
  run_tasks(sizes.experts, /*scratch_size=*/0, [&](int64_t expert, float*) {
    if (up_bias_gradient != nullptr) {
      float* const sum = up_bias_gradient + expert * up_width;
      sum_up_bias(plan, expert, up_width, all_up_gradients, sum);
    }
    if (down_bias_gradient != nullptr) {
      sum_down_bias(rows, expert, dim, g, down_bias_gradient + expert * dim);
    }
  });
  return gradients;
}

} // namespace moe::cpu
