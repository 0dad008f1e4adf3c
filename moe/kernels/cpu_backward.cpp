#include <algorithm>
#include <array>
#include <numeric>
#include <optional>
#include <type_traits>

#include "moe/kernels/cpu_activation.h"
#include "moe/kernels/cpu_expert_mlp.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rounding.h"
#include "moe/kernels/cpu_rows.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/cpu_transpose.h"
#include "moe/kernels/cpu_transposed_weights.h"
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

/// What a thread works in. The places to round from and what was rounded are there for bfloat16
/// only.
struct BackwardScratch {
  BackwardScratch(const Sizes& sizes, bool rounds)
      : outputs(0),
        chunk(outputs + sizes.model_dim * kMaxLanes),
        weights(chunk + kBackwardChunk * kMaxLanes),
        weight_gradients(weights + kMaxLanes),
        transposed(weight_gradients + kMaxLanes),
        unrounded(transposed + transposed_size(sizes)),
        spare(unrounded + (rounds ? transposed_size(sizes) : 0)),
        factor(spare + (rounds ? 5 * kSpare : 0)),
        size(factor + (rounds ? sizes.up_width * kMaxLanes / 2 : 0)) {}

  static int64_t transposed_size(const Sizes& sizes) {
    return kBackwardChunk * std::max(sizes.model_dim, sizes.up_width);
  }

  static constexpr int64_t kSpare = kBackwardChunk * kMaxLanes;

  int64_t outputs;          ///< G^T [D, lanes]
  int64_t chunk;            ///< dH^T, then dX^T, of a chunk [chunk, lanes]
  int64_t weights;          ///< row weights [lanes]
  int64_t weight_gradients; ///< [lanes]
  int64_t transposed;       ///< rows of transposed weights [chunk, D or 2F]
  int64_t unrounded;        ///< the same in float32
  int64_t spare;            ///< gate, up, their gradients, hidden, of a chunk [chunk, lanes]
  int64_t factor;           ///< dP^T [2F, lanes] as a right factor
  int64_t size;
};

/// The sum over i of a[i] · b[i], in the lanes of vector registers.
float product(const float* a, const float* b, int64_t count) {
  std::array<float, 16> sums{};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int64_t lane = 0; lane < 16; ++lane) {
      sums[lane] += a[i + lane] * b[i + lane];
    }
  }
  for (; i < count; ++i) {
    sums[0] += a[i] * b[i];
  }
  return std::accumulate(sums.begin(), sums.end(), 0.0F);
}

/// What is known of all tiles when they are done.
struct TileGradients {
  at::Tensor up;         ///< dP^T of all tiles, one after the other
  at::Tensor hidden;     ///< (row_weight · H)^T of all tiles
  at::Tensor row_weight; ///< [N]
  at::Tensor input;      ///< [N, D]; undefined unless asked for
};

template <typename Element>
TileGradients backward_tiles(
    const at::Tensor& output_gradient,
    const RowTiles& plan,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    const at::Tensor& preactivations,
    const Sizes& sizes,
    bool needs_input) {
  constexpr bool rounds = !std::is_same_v<Element, float>;
  const auto dim = sizes.model_dim;
  const auto width = sizes.expert_dim;
  const auto up_width = sizes.up_width;
  const auto options = output_gradient.options();
  const auto type = kTensorType<Element>;

  const TransposedWeights<Element> down(weights.down, plan); // [F, D] of each expert
  std::optional<TransposedWeights<Element>> up;              // [D, 2F]
  if (needs_input) {
    up.emplace(weights.up, plan);
  }
  const TileGradients gradients{
      at::empty({plan.num_lanes * up_width}, options.dtype(type)),
      at::empty({plan.num_lanes * width}, options.dtype(type)),
      at::empty({sizes.rows}, options),
      needs_input ? at::empty({sizes.rows, dim}, options) : at::Tensor()};

  const int32_t* row_token = rows.row_token.const_data_ptr<int32_t>();
  const float* row_weight = rows.row_weight.const_data_ptr<float>();
  const float* g = output_gradient.const_data_ptr<float>();
  const auto* kept = static_cast<const Element*>(preactivations.const_data_ptr());
  const float* down_bias = data_or_null(weights.down_bias);
  float* const result = needs_input ? gradients.input.mutable_data_ptr<float>() : nullptr;
  auto* const all_up_gradients = static_cast<Element*>(gradients.up.mutable_data_ptr());
  auto* const all_hidden = static_cast<Element*>(gradients.hidden.mutable_data_ptr());
  float* const row_weight_gradient = gradients.row_weight.mutable_data_ptr<float>();
  const BackwardScratch layout(sizes, rounds);

  const auto compute_tile = [&](int64_t task, float* scratch) {
    const MatrixRegisters registers;
    const RowTile& tile = plan.tiles[plan.largest_first[task]];
    const auto lanes = tile.lanes;
    auto* const outputs = reinterpret_cast<Element*>(scratch + layout.outputs);
    float* const chunk = scratch + layout.chunk;
    float* const lane_weight = scratch + layout.weights;
    float* const lane_gradient = scratch + layout.weight_gradients;
    const auto spare = [&](int64_t i) { return scratch + layout.spare + i * layout.kSpare; };
    gather_transposed(tile, row_token, g, dim, outputs);
    gather_weights(tile, row_weight, lane_weight);
    std::fill_n(lane_gradient, lanes, 0.0F);

    const TransposeSpace<Element> space{
        reinterpret_cast<Element*>(scratch + layout.transposed), scratch + layout.unrounded};
    const Element* const tile_kept = kept + tile.first_lane * up_width;
    Element* const tile_gradients = all_up_gradients + tile.first_lane * up_width;
    Element* const tile_hidden = all_hidden + tile.first_lane * width;
    Element* const factor =
        rounds ? reinterpret_cast<Element*>(scratch + layout.factor) : tile_gradients;
    for (int64_t f = 0; f < width; f += kBackwardChunk) {
      const auto count = std::min(kBackwardChunk, width - f);
      gemm(
          count,
          lanes,
          dim,
          {down.rows(tile.expert, f, count, space), dim},
          {outputs, lanes},
          {chunk, lanes},
          Store::overwrite);
      const auto size = count * lanes;
      const auto gate = f * lanes;
      const auto ungated = (width + f) * lanes;
      float* const gate_gradient = place_to_compute(tile_gradients + gate, spare(2));
      float* const up_gradient = place_to_compute(tile_gradients + ungated, spare(3));
      float* const computed_hidden = place_to_compute(tile_hidden + gate, spare(4));
      activation_backward(
          form,
          count,
          lanes,
          {as_float(tile_kept + gate, size, spare(0)),
           form.gated ? as_float(tile_kept + ungated, size, spare(1)) : nullptr,
           lane_weight,
           chunk,
           gate_gradient,
           form.gated ? up_gradient : nullptr,
           computed_hidden,
           lane_gradient});
      put_rows(gate_gradient, size, tile_gradients + gate);
      put_factor(gate_gradient, count, lanes, factor + gate);
      if (form.gated) {
        put_rows(up_gradient, size, tile_gradients + ungated);
        put_factor(up_gradient, count, lanes, factor + ungated);
      }
      put_rows(computed_hidden, size, tile_hidden + gate);
    }
    for (int64_t i = 0; down_bias != nullptr && i < tile.rows; ++i) {
      const float* const row = g + row_token[tile.first_row + i] * dim;
      lane_gradient[i] += product(down_bias + tile.expert * dim, row, dim);
    }
    std::copy_n(lane_gradient, tile.rows, row_weight_gradient + tile.first_row);

    if (result == nullptr) {
      return;
    }
    for (int64_t d = 0; d < dim; d += kBackwardChunk) {
      const auto count = std::min(kBackwardChunk, dim - d);
      gemm(
          count,
          lanes,
          up_width,
          {up->rows(tile.expert, d, count, space), up_width},
          {factor, lanes},
          {chunk, lanes},
          Store::overwrite);
      transpose({chunk, lanes}, count, tile.rows, {result + tile.first_row * dim + d, dim});
    }
  };
  run_tasks(static_cast<int64_t>(plan.tiles.size()), layout.size, compute_tile);
  return gradients;
}

/// sum [2F] of dP^T [2F, lanes] of an expert's tiles.
template <typename Element>
void sum_up_bias(
    const RowTiles& plan, int64_t expert, int64_t width, const Element* gradients, float* sum) {
  std::array<float, kMaxLanes> spare;
  std::fill_n(sum, width, 0.0F);
  for (auto t = plan.first_of_expert[expert]; t < plan.first_of_expert[expert + 1]; ++t) {
    const RowTile& tile = plan.tiles[t];
    const Element* row = gradients + tile.first_lane * width;
    for (int64_t f = 0; f < width; ++f, row += tile.lanes) {
      const float* const values = as_float(row, tile.rows, spare.data());
      sum[f] = std::accumulate(values, values + tile.rows, sum[f]);
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

template <typename Element>
Gradients backward_of(
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
  const auto tiles = backward_tiles<Element>(
      output_gradient, plan, rows, weights, form, preactivations, sizes, mask.input);
  const auto gradient_of = [](bool asked, const at::Tensor& weight) {
    return asked ? at::empty_like(weight) : at::Tensor();
  };
  const auto data_of = [](const at::Tensor& gradient) {
    return gradient.defined() ? gradient.mutable_data_ptr<float>() : nullptr;
  };
  const Gradients gradients{
      mask.input ? combine(tiles.input, rows.token_rows) : at::Tensor(),
      tiles.row_weight,
      gradient_of(mask.up, weights.up),
      gradient_of(mask.down, weights.down),
      gradient_of(mask.up_bias, weights.up_bias),
      gradient_of(mask.down_bias, weights.down_bias)};

  const int32_t* row_token = rows.row_token.const_data_ptr<int32_t>();
  const float* g = output_gradient.const_data_ptr<float>();
  const auto* all_up_gradients = static_cast<const Element*>(tiles.up.const_data_ptr());
  const WeightGradient<Element> up{
      all_up_gradients,
      input.const_data_ptr<float>(),
      sizes.up_width,
      dim,
      data_of(gradients.up),
      /*transposed=*/false};
  const WeightGradient<Element> down{
      static_cast<const Element*>(tiles.hidden.const_data_ptr()),
      g,
      sizes.expert_dim,
      dim,
      data_of(gradients.down),
      /*transposed=*/true};
  weight_gradients(plan, row_token, up, down);

  float* const up_bias_gradient = data_of(gradients.up_bias);
  float* const down_bias_gradient = data_of(gradients.down_bias);
  run_tasks(sizes.experts, /*scratch_size=*/0, [&](int64_t expert, float*) {
    if (up_bias_gradient != nullptr) {
      float* const sum = up_bias_gradient + expert * sizes.up_width;
      sum_up_bias(plan, expert, sizes.up_width, all_up_gradients, sum);
    }
    if (down_bias_gradient != nullptr) {
      sum_down_bias(rows, expert, dim, g, down_bias_gradient + expert * dim);
    }
  });
  return gradients;
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
  const bool narrow = preactivations.scalar_type() == at::kBFloat16;
  const auto run = narrow ? backward_of<uint16_t> : backward_of<float>;
  return run(output_gradient, input, rows, weights, form, preactivations, mask);
}

} // namespace moe::cpu
