#include "moe/kernels/cpu_cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_row_tiles.h"
#include "moe/kernels/cpu_softmax.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_transpose.h"

// As in cpu_expert_mlp.h, a tile of rows is computed transposed, with the rows in the lanes:
//
//     X^T [D, lanes]
//     L^T [V, lanes] = head · X^T              logits
//     E^T [V, lanes] = e^(L^T − maximum)       in their place; sum over V: Z
//     loss           = maximum + log Z − logit of the target
//     dX^T [D, lanes] = head^T · E^T           then · weight / Z, − weight · head[target]
//
// The softmax itself is never written: its factor weight / Z goes into the rows of dX, and into
// the rows X that meet E^T in the gradient of the head:
//
//     dhead [V, D] += E^T · (weight / Z · X),  − weight · X where V is the target
//
// A block of tiles is computed, then its part of dhead, by panels of the vocabulary, each of
// which walks the tiles in order: the bits depend on neither threads nor the size of blocks.

namespace moe::cpu {
namespace {

constexpr int64_t kVocabularyChunk = 256;
constexpr int64_t kHeadPanelRows = 128;
constexpr int64_t kHeadPanelColumns = 128;

/// Logits of a tile: at most about 4 MiB, so that those of all threads fit the last cache.
int64_t tile_lanes(int64_t vocab_size) {
  constexpr int64_t kTileLogits = 1 << 20;
  return std::clamp<int64_t>(kTileLogits / vocab_size / 16 * 16, 32, kMaxLanes);
}

/// Enough tiles for all threads, and blocks of 16 MiB; no more than there are.
int64_t tiles_per_block(int64_t tile_logits, int64_t num_tiles) {
  constexpr int64_t kBlockLogits = 1 << 22;
  const auto wanted = std::max<int64_t>(2 * at::get_num_threads(), kBlockLogits / tile_logits);
  return std::min(wanted, std::max<int64_t>(1, num_tiles));
}

struct Head {
  const float* weights;    ///< [V, D]
  const float* transposed; ///< chunks of the vocabulary, each [D, up to kVocabularyChunk]
  int64_t vocab_size;
  int64_t dim;
};

/// `head` [V, D] -> its chunks, transposed.
at::Tensor transpose_chunks(const at::Tensor& head) {
  const auto vocab_size = head.size(0);
  const auto dim = head.size(1);
  auto result = at::empty({vocab_size * dim}, head.options());
  const float* from = head.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  const auto chunks = (vocab_size + kVocabularyChunk - 1) / kVocabularyChunk;
  run_tasks(chunks, /*scratch_size=*/0, [&](int64_t chunk, float*) {
    const auto first = chunk * kVocabularyChunk;
    const auto count = std::min(kVocabularyChunk, vocab_size - first);
    transpose({from + first * dim, dim}, count, dim, {to + first * dim, count});
  });
  return result;
}

/// Some rows of the batch and where their results go.
struct Tile {
  int64_t rows;
  int64_t lanes;
  const float* inputs;    ///< [rows, D]
  const int64_t* targets; ///< [rows]
  const float* weights;   ///< [rows]
  float* losses;          ///< [rows]
  float* logits;          ///< [V, lanes]: E^T afterwards
  float* inputs_gradient; ///< [rows, D]; null without gradients
  float* scaled_inputs;   ///< columns by panels, each [lanes, up to kHeadPanelColumns]
};

/// What a thread works in.
struct TileScratch {
  explicit TileScratch(const Head& head, int64_t lanes)
      : inputs(0),
        gradient(inputs + head.dim * lanes),
        maximum(gradient + head.dim * lanes),
        sum(maximum + lanes),
        chunk_sum(sum + lanes),
        target(chunk_sum + lanes),
        size(target + lanes) {}

  int64_t inputs;    ///< X^T [D, lanes]
  int64_t gradient;  ///< dX^T [D, lanes]
  int64_t maximum;   ///< [lanes]
  int64_t sum;       ///< [lanes]
  int64_t chunk_sum; ///< [lanes]: sums of sums lose less
  int64_t target;    ///< [lanes]: the target's logit
  int64_t size;
};

void compute_logits(const Head& head, const Tile& tile, float* inputs, float* maximum) {
  transpose({tile.inputs, head.dim}, tile.rows, head.dim, {inputs, tile.lanes});
  for (int64_t d = 0; tile.rows < tile.lanes && d < head.dim; ++d) {
    std::fill(inputs + d * tile.lanes + tile.rows, inputs + (d + 1) * tile.lanes, 0.0F);
  }
  std::fill_n(maximum, tile.lanes, -std::numeric_limits<float>::infinity());
  for (int64_t v = 0; v < head.vocab_size; v += kVocabularyChunk) {
    const auto count = std::min(kVocabularyChunk, head.vocab_size - v);
    float* const logits = tile.logits + v * tile.lanes;
    gemm(
        count,
        tile.lanes,
        head.dim,
        {head.weights + v * head.dim, head.dim},
        {inputs, tile.lanes},
        {logits, tile.lanes},
        Store::overwrite);
    raise_maximum(count, tile.lanes, logits, maximum);
  }
}

/// dX and the rows that the head's gradient takes, from dX^T without its factors.
void scale_rows(const Head& head, const Tile& tile, const float* gradient, const float* sum) {
  transpose({gradient, tile.lanes}, head.dim, tile.rows, {tile.inputs_gradient, head.dim});
  for (int64_t i = 0; i < tile.lanes; ++i) {
    const bool is_row = i < tile.rows;
    const float factor = is_row ? tile.weights[i] / sum[i] : 0.0F;
    const float* const input = tile.inputs + (is_row ? i : 0) * head.dim;
    for (int64_t d = 0; d < head.dim; d += kHeadPanelColumns) {
      const auto count = std::min(kHeadPanelColumns, head.dim - d);
      float* const to = tile.scaled_inputs + d * tile.lanes + i * count;
      for (int64_t j = 0; j < count; ++j) {
        to[j] = factor * input[d + j];
      }
    }
    if (is_row) {
      const float* const target = head.weights + tile.targets[i] * head.dim;
      float* const out = tile.inputs_gradient + i * head.dim;
      for (int64_t d = 0; d < head.dim; ++d) {
        out[d] = factor * out[d] - tile.weights[i] * target[d];
      }
    }
  }
}

void compute_tile(const Head& head, const Tile& tile, float* scratch) {
  const TileScratch layout(head, tile.lanes);
  float* const inputs = scratch + layout.inputs;
  float* const gradient = scratch + layout.gradient;
  float* const maximum = scratch + layout.maximum;
  float* const sum = scratch + layout.sum;
  float* const chunk_sum = scratch + layout.chunk_sum;
  float* const target = scratch + layout.target;
  compute_logits(head, tile, inputs, maximum);
  for (int64_t i = 0; i < tile.rows; ++i) {
    target[i] = tile.logits[tile.targets[i] * tile.lanes + i];
  }
  std::fill_n(sum, tile.lanes, 0.0F);
  for (int64_t v = 0; v < head.vocab_size; v += kVocabularyChunk) {
    const auto count = std::min(kVocabularyChunk, head.vocab_size - v);
    float* const exponentials = tile.logits + v * tile.lanes;
    std::fill_n(chunk_sum, tile.lanes, 0.0F);
    exponentiate(count, tile.lanes, exponentials, maximum, chunk_sum);
    for (int64_t i = 0; i < tile.lanes; ++i) {
      sum[i] += chunk_sum[i];
    }
    if (tile.inputs_gradient != nullptr) {
      gemm(
          head.dim,
          tile.lanes,
          count,
          {head.transposed + v * head.dim, count},
          {exponentials, tile.lanes},
          {gradient, tile.lanes},
          v == 0 ? Store::overwrite : Store::add);
    }
  }
  for (int64_t i = 0; i < tile.rows; ++i) {
    tile.losses[i] = maximum[i] + std::log(sum[i]) - target[i];
  }
  if (tile.inputs_gradient != nullptr) {
    scale_rows(head, tile, gradient, sum);
  }
}

/// Adds the tiles' part to the rows [first, first + count) of the gradient [V, D].
void add_panel(
    const Head& head,
    const std::vector<Tile>& tiles,
    int64_t first,
    int64_t count,
    bool is_first_block,
    float* gradient) {
  auto store = is_first_block ? Store::overwrite : Store::add;
  for (const Tile& tile : tiles) {
    for (int64_t d = 0; d < head.dim; d += kHeadPanelColumns) {
      const auto columns = std::min(kHeadPanelColumns, head.dim - d);
      gemm(
          count,
          columns,
          tile.lanes,
          {tile.logits + first * tile.lanes, tile.lanes},
          {tile.scaled_inputs + d * tile.lanes, columns},
          {gradient + first * head.dim + d, head.dim},
          store);
    }
    store = Store::add;
  }
  for (const Tile& tile : tiles) {
    for (int64_t i = 0; i < tile.rows; ++i) {
      const auto target = tile.targets[i];
      if (target >= first && target < first + count) {
        float* const row = gradient + target * head.dim;
        for (int64_t d = 0; d < head.dim; ++d) {
          row[d] -= tile.weights[i] * tile.inputs[i * head.dim + d];
        }
      }
    }
  }
}

void check_targets(const at::Tensor& targets, int64_t vocab_size) {
  const int64_t* const target = targets.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < targets.numel(); ++i) {
    TORCH_CHECK(
        target[i] >= 0 && target[i] < vocab_size,
        "cross_entropy: target ",
        target[i],
        " is not in [0, vocab_size = ",
        vocab_size,
        ")");
  }
}

} // namespace

CrossEntropy cross_entropy(
    const at::Tensor& rows,
    const at::Tensor& head,
    const at::Tensor& targets,
    const at::Tensor& weights,
    bool need_gradient) {
  const auto num_rows = rows.size(0);
  const auto dim = rows.size(1);
  const auto vocab_size = head.size(0);
  check_targets(targets, vocab_size);
  const auto lanes = tile_lanes(vocab_size);
  const auto per_block = tiles_per_block(vocab_size * lanes, (num_rows + lanes - 1) / lanes);

  CrossEntropy result;
  result.losses = at::empty({num_rows}, rows.options());
  at::Tensor transposed;
  at::Tensor scaled_inputs;
  if (need_gradient) {
    result.rows_gradient = at::empty_like(rows);
    result.head_gradient = num_rows > 0 ? at::empty_like(head) : at::zeros_like(head);
    transposed = transpose_chunks(head);
    scaled_inputs = at::empty({per_block * lanes * dim}, rows.options());
  }
  const auto logits = at::empty({per_block * lanes * vocab_size}, rows.options());
  const Head weights_of_head{
      head.const_data_ptr<float>(),
      need_gradient ? transposed.const_data_ptr<float>() : nullptr,
      vocab_size,
      dim};
  const auto tile_at = [&](int64_t row, int64_t slot) {
    Tile tile{};
    tile.rows = std::min(lanes, num_rows - row);
    tile.lanes = lanes;
    tile.inputs = rows.const_data_ptr<float>() + row * dim;
    tile.targets = targets.const_data_ptr<int64_t>() + row;
    tile.weights = weights.const_data_ptr<float>() + row;
    tile.losses = result.losses.mutable_data_ptr<float>() + row;
    tile.logits = logits.mutable_data_ptr<float>() + slot * lanes * vocab_size;
    if (need_gradient) {
      tile.inputs_gradient = result.rows_gradient.mutable_data_ptr<float>() + row * dim;
      tile.scaled_inputs = scaled_inputs.mutable_data_ptr<float>() + slot * lanes * dim;
    }
    return tile;
  };
  const auto num_panels = (vocab_size + kHeadPanelRows - 1) / kHeadPanelRows;
  for (int64_t begin = 0; begin < num_rows; begin += per_block * lanes) {
    std::vector<Tile> tiles;
    for (int64_t row = begin; row < std::min(num_rows, begin + per_block * lanes);
         row += lanes) {
      tiles.push_back(tile_at(row, static_cast<int64_t>(tiles.size())));
    }
    run_tasks(
        static_cast<int64_t>(tiles.size()),
        TileScratch(weights_of_head, lanes).size,
        [&](int64_t i, float* scratch) { compute_tile(weights_of_head, tiles[i], scratch); });
    if (!need_gradient) {
      continue;
    }
    float* const gradient = result.head_gradient.mutable_data_ptr<float>();
    run_tasks(num_panels, /*scratch_size=*/0, [&](int64_t panel, float*) {
      const auto first = panel * kHeadPanelRows;
      const auto count = std::min(kHeadPanelRows, vocab_size - first);
      add_panel(weights_of_head, tiles, first, count, begin == 0, gradient);
    });
  }
  return result;
}

} // namespace moe::cpu
