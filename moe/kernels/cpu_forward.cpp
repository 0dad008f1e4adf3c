#include "moe/kernels/cpu_activation.h"
#include "moe/kernels/cpu_expert_mlp.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rounding.h"
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
        computed(chunk + 2 * kForwardChunk * kMaxLanes),
        weights(computed + kForwardChunk * kMaxLanes),
        unpacked(weights + kMaxLanes),
        size(unpacked + kForwardChunk * std::max(sizes.model_dim, sizes.expert_dim)) {}

  int64_t inputs;   ///< X^T [D, lanes]
  int64_t hidden;   ///< H^T [F, lanes]
  int64_t chunk;    ///< P^T of a chunk [2, chunk, lanes], then Y^T of a chunk [chunk, lanes]
  int64_t computed; ///< H^T of a chunk before it is rounded [chunk, lanes]
  int64_t weights;  ///< row weights [lanes]
  int64_t unpacked; ///< rows of packed weights [chunk, D or F]
  int64_t size;
};

/// Rows of a matrix as float32: where they lie, or unpacked into `space`.
ConstMatrix rows_of(const PackedMatrix& matrix, int64_t first, int64_t count, float* space) {
  if (matrix.type == WeightType::float32) {
    return {
        static_cast<const float*>(matrix.weights.get()) + first * matrix.stride, matrix.stride};
  }
  unpack_rows(matrix, first, count, space);
  return {space, matrix.columns};
}

/// Rows of a matrix of bfloat16, where they lie.
ConstBFloat16Matrix rows_of(
    const PackedMatrix& matrix, int64_t first, int64_t /*count*/, uint16_t* /*space*/) {
  return {
      static_cast<const uint16_t*>(matrix.weights.get()) + first * matrix.stride,
      matrix.stride};
}

/// Adds bias[row] · weight[lane] to `to` [count, lanes]; without weights, the bias.
void add_bias(const float* bias, const float* weight, int64_t count, int64_t lanes, float* to) {
  for (int64_t row = 0; row < count; ++row, to += lanes) {
    for (int64_t i = 0; i < lanes; ++i) {
      to[i] += weight != nullptr ? bias[row] * weight[i] : bias[row];
    }
  }
}

/// A view of weights of float32 or bfloat16 that does not keep them alive.
PackedMatrix borrow(const at::Tensor& weights) {
  PackedMatrix matrix;
  matrix.type =
      weights.scalar_type() == at::kBFloat16 ? WeightType::bfloat16 : WeightType::float32;
  matrix.columns = weights.size(-1);
  matrix.stride = matrix.columns;
  matrix.rows = weights.numel() / matrix.columns;
  matrix.weights = {std::shared_ptr<const void>(), weights.const_data_ptr()};
  return matrix;
}

/// `Element` is what products read: float, or uint16_t for bfloat16.
template <typename Element>
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
  Element* kept = nullptr;
  if (keep_preactivations) {
    preactivations = at::empty(
        {plan.num_lanes * sizes.up_width}, input.options().dtype(kTensorType<Element>));
    kept = static_cast<Element*>(preactivations.mutable_data_ptr());
  }
  const float* x = input.const_data_ptr<float>();
  const int32_t* row_token = rows.row_token.const_data_ptr<int32_t>();
  const float* row_weight = rows.row_weight.const_data_ptr<float>();
  float* result = results.mutable_data_ptr<float>();
  const auto dim = sizes.model_dim;
  const auto width = sizes.expert_dim;
  const ForwardScratch layout(sizes);

  const auto compute_tile = [&](int64_t task, float* scratch) {
    const MatrixRegisters registers;
    const RowTile& tile = plan.tiles[plan.largest_first[task]];
    const auto lanes = tile.lanes;
    auto* const inputs = reinterpret_cast<Element*>(scratch + layout.inputs);
    auto* const hidden = reinterpret_cast<Element*>(scratch + layout.hidden);
    float* const chunk = scratch + layout.chunk;
    float* const computed = scratch + layout.computed;
    float* const lane_weight = scratch + layout.weights;
    gather_transposed(tile, row_token, x, dim, inputs);
    gather_weights(tile, row_weight, lane_weight);

    auto* const unpacked = reinterpret_cast<Element*>(scratch + layout.unpacked);
    const int64_t first_up = tile.expert * sizes.up_width;
    Element* const tile_kept =
        kept != nullptr ? kept + tile.first_lane * sizes.up_width : nullptr;
    for (int64_t f = 0; f < width; f += kForwardChunk) {
      const auto count = std::min(kForwardChunk, width - f);
      // The features from `row` on of gate or up, into their place or into the scratch.
      const auto project = [&](int64_t row, float* spare) {
        Element* const place = tile_kept != nullptr ? tile_kept + row * lanes : nullptr;
        float* const to = place_to_compute(place, spare);
        gemm(
            count,
            lanes,
            dim,
            rows_of(weights.up, first_up + row, count, unpacked),
            {inputs, lanes},
            {to, lanes},
            Store::overwrite);
        if (weights.up_bias != nullptr) {
          add_bias(weights.up_bias + first_up + row, nullptr, count, lanes, to);
        }
        put_rows(to, count * lanes, place);
        return to;
      };
      const float* gate = project(f, chunk);
      const float* ungated =
          form.gated ? project(width + f, chunk + kForwardChunk * kMaxLanes) : nullptr;
      Element* const place = hidden + f * lanes;
      float* const to = place_to_compute(place, computed);
      activation_forward(form, count, lanes, {gate, ungated, lane_weight, to});
      put_factor(to, count, lanes, place);
    }

    for (int64_t d = 0; d < dim; d += kForwardChunk) {
      const auto count = std::min(kForwardChunk, dim - d);
      const auto first_down = tile.expert * dim + d;
      gemm(
          count,
          lanes,
          width,
          rows_of(weights.down, first_down, count, unpacked),
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
    Products products,
    bool keep_preactivations) {
  const bool narrow = products == Products::bfloat16;
  const auto up = narrow ? weights.up.to(at::kBFloat16) : weights.up;
  const auto down = narrow ? weights.down.to(at::kBFloat16) : weights.down;
  const PackedWeights borrowed{
      borrow(up), borrow(down), data_or_null(weights.up_bias), data_or_null(weights.down_bias)};
  const auto run = narrow ? forward_tiles<uint16_t> : forward_tiles<float>;
  return run(input, rows, borrowed, form, sizes_of(input, rows, weights), keep_preactivations);
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
  return forward_tiles<float>(input, rows, weights, form, sizes, /*keep_preactivations=*/false)
      .output;
}

} // namespace moe::cpu
