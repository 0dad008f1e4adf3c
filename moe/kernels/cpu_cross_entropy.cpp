#include "moe/kernels/cpu_cross_entropy.h"

#include <algorithm>
#include <type_traits>
#include <vector>

#include "moe/kernels/cpu_cross_entropy_tile.h"
#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rounding.h"
#include "moe/kernels/cpu_row_tiles.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
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
//
// Of bfloat16 the factors E^T and weight / Z · X are rounded just before their products; logits
// and all else between the products are float32. A thread keeps the logits of its tile only,
// and the block keeps E^T as it was rounded.

namespace moe::cpu {
namespace {

constexpr int64_t kHeadPanelRows = 128;

/// What a tile has of E^T: at most about 4 MiB, so that those of all threads fit the last
/// cache; more where a tile would be so narrow that reading the head took longer than
/// multiplying it.
template <typename Element>
int64_t tile_lanes(int64_t vocab_size) {
  constexpr int64_t kTileElements = (1 << 22) / sizeof(Element);
  constexpr int64_t kLeastLanes = 128 / sizeof(Element);
  return std::clamp<int64_t>(kTileElements / vocab_size / 16 * 16, kLeastLanes, kUsualLanes);
}

/// Enough tiles for all threads, and blocks of 16 MiB; no more than there are.
int64_t tiles_per_block(int64_t tile_bytes, int64_t num_tiles) {
  constexpr int64_t kBlockBytes = 1 << 24;
  const auto wanted = std::max<int64_t>(2 * at::get_num_threads(), kBlockBytes / tile_bytes);
  return std::min(wanted, std::max<int64_t>(1, num_tiles));
}

/// The values of a tensor of what products read; null if it is undefined.
template <typename Element>
Element* elements(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<Element*>(tensor.mutable_data_ptr()) : nullptr;
}
template <typename Element>
const Element* const_elements(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<const Element*>(tensor.const_data_ptr()) : nullptr;
}

// Numbers of bfloat16 are transposed as float32, so many columns at a time.
constexpr int64_t kTransposedColumns = 64;

/// A chunk [count, D] of the head -> [D, factor_depth].
void transpose_chunk(
    const float* from, int64_t count, int64_t dim, float* to, float* /*spare*/) {
  transpose({from, dim}, count, dim, {to, count});
}
void transpose_chunk(
    const uint16_t* from, int64_t count, int64_t dim, uint16_t* to, float* spare) {
  const auto depth = factor_depth<uint16_t>(count);
  float* const wide = spare;
  float* const turned = spare + kVocabularyChunk * kTransposedColumns;
  std::fill_n(turned, kTransposedColumns * depth, 0.0F);
  for (int64_t d = 0; d < dim; d += kTransposedColumns) {
    const auto columns = std::min(kTransposedColumns, dim - d);
    for (int64_t v = 0; v < count; ++v) {
      widen_row(from + v * dim + d, columns, wide + v * columns);
    }
    transpose({wide, columns}, count, columns, {turned, depth});
    round_row(turned, columns * depth, to + d * depth);
  }
}

/// `head` [V, D] -> its chunks, transposed.
template <typename Element>
at::Tensor transpose_chunks(const at::Tensor& head) {
  const auto vocab_size = head.size(0);
  const auto dim = head.size(1);
  auto result = at::empty({factor_depth<Element>(vocab_size) * dim}, head.options());
  const auto* const from = const_elements<Element>(head);
  auto* const to = elements<Element>(result);
  const auto chunks = (vocab_size + kVocabularyChunk - 1) / kVocabularyChunk;
  constexpr int64_t scratch_size = 2 * kVocabularyChunk * kTransposedColumns;
  run_tasks(chunks, scratch_size, [&](int64_t chunk, float* scratch) {
    const auto first = chunk * kVocabularyChunk;
    const auto count = std::min(kVocabularyChunk, vocab_size - first);
    transpose_chunk(from + first * dim, count, dim, to + first * dim, scratch);
  });
  return result;
}

/// Adds the tiles' part to the rows [first, first + count) of the gradient [V, D].
template <typename Element>
void add_panel(
    int64_t dim,
    const std::vector<VocabularyTile<Element>>& tiles,
    int64_t first,
    int64_t count,
    bool is_first_block,
    float* gradient,
    float* spare) {
  auto store = is_first_block ? Store::overwrite : Store::add;
  for (const auto& tile : tiles) {
    for (int64_t d = 0; d < dim; d += kHeadPanelColumns) {
      const auto columns = std::min(kHeadPanelColumns, dim - d);
      gemm(
          count,
          columns,
          tile.lanes,
          {tile.exponentials + first * tile.lanes, tile.lanes},
          {tile.scaled_inputs + d * tile.lanes, columns},
          {gradient + first * dim + d, dim},
          store);
    }
    store = Store::add;
  }
  for (const auto& tile : tiles) {
    for (int64_t i = 0; i < tile.rows; ++i) {
      const auto target = tile.targets[i];
      if (target >= first && target < first + count) {
        const float* const input = as_float(tile.inputs + i * dim, dim, spare);
        float* const row = gradient + target * dim;
        for (int64_t d = 0; d < dim; ++d) {
          row[d] -= tile.weights[i] * input[d];
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

template <typename Element>
CrossEntropy cross_entropy_of(
    const at::Tensor& rows,
    const at::Tensor& head,
    const at::Tensor& targets,
    const at::Tensor& weights,
    bool need_gradient) {
  const auto num_rows = rows.size(0);
  const auto dim = rows.size(1);
  const auto vocab_size = head.size(0);
  const auto lanes = tile_lanes<Element>(vocab_size);
  const auto tile_size = lanes * vocab_size;
  const auto per_block = tiles_per_block(
      tile_size * static_cast<int64_t>(sizeof(Element)), (num_rows + lanes - 1) / lanes);
  const auto options = weights.options();

  CrossEntropy result;
  result.losses = at::empty({num_rows}, options);
  at::Tensor transposed;
  at::Tensor scaled_inputs;
  at::Tensor exponentials;
  if (need_gradient) {
    result.rows_gradient = at::empty(rows.sizes(), options);
    result.head_gradient =
        num_rows > 0 ? at::empty(head.sizes(), options) : at::zeros(head.sizes(), options);
    transposed = transpose_chunks<Element>(head);
    scaled_inputs = at::empty({per_block * lanes * dim}, rows.options());
  }
  if (need_gradient || std::is_same_v<Element, float>) {
    exponentials = at::empty({per_block * tile_size}, rows.options());
  }
  const VocabularyHead<Element> vocabulary{
      const_elements<Element>(head), const_elements<Element>(transposed), vocab_size, dim};
  const auto tile_at = [&](int64_t row, int64_t slot) {
    VocabularyTile<Element> tile{};
    tile.rows = std::min(lanes, num_rows - row);
    tile.lanes = lanes;
    tile.inputs = const_elements<Element>(rows) + row * dim;
    tile.targets = targets.const_data_ptr<int64_t>() + row;
    tile.weights = weights.const_data_ptr<float>() + row;
    tile.losses = result.losses.mutable_data_ptr<float>() + row;
    if (exponentials.defined()) {
      tile.exponentials = elements<Element>(exponentials) + slot * tile_size;
    }
    if (need_gradient) {
      tile.inputs_gradient = result.rows_gradient.mutable_data_ptr<float>() + row * dim;
      tile.scaled_inputs = elements<Element>(scaled_inputs) + slot * lanes * dim;
    }
    return tile;
  };
  const auto num_panels = (vocab_size + kHeadPanelRows - 1) / kHeadPanelRows;
  for (int64_t begin = 0; begin < num_rows; begin += per_block * lanes) {
    std::vector<VocabularyTile<Element>> tiles;
    for (int64_t row = begin; row < std::min(num_rows, begin + per_block * lanes);
         row += lanes) {
      tiles.push_back(tile_at(row, static_cast<int64_t>(tiles.size())));
    }
    run_tasks(
        static_cast<int64_t>(tiles.size()),
        tile_scratch_size(vocabulary, lanes),
        [&](int64_t i, float* scratch) {
          const MatrixRegisters registers;
          compute_tile(vocabulary, tiles[i], scratch);
        });
    if (!need_gradient) {
      continue;
    }
    float* const gradient = result.head_gradient.mutable_data_ptr<float>();
    run_tasks(num_panels, /*scratch_size=*/dim, [&](int64_t panel, float* scratch) {
      const MatrixRegisters registers;
      const auto first = panel * kHeadPanelRows;
      const auto count = std::min(kHeadPanelRows, vocab_size - first);
      add_panel(dim, tiles, first, count, begin == 0, gradient, scratch);
    });
  }
  return result;
}

/// Pairs take an even width: a column of zeros changes no product.
at::Tensor with_even_width(const at::Tensor& matrix) {
  return matrix.size(1) % 2 == 0 ? matrix : at::constant_pad_nd(matrix, {0, 1});
}

} // namespace

CrossEntropy cross_entropy(
    const at::Tensor& rows,
    const at::Tensor& head,
    const at::Tensor& targets,
    const at::Tensor& weights,
    bool need_gradient) {
  check_targets(targets, head.size(0));
  if (rows.scalar_type() == at::kFloat) {
    return cross_entropy_of<float>(rows, head, targets, weights, need_gradient);
  }
  auto result = cross_entropy_of<uint16_t>(
      with_even_width(rows), with_even_width(head), targets, weights, need_gradient);
  if (need_gradient) {
    const auto dim = rows.size(1);
    result.rows_gradient = result.rows_gradient.narrow(1, 0, dim).contiguous();
    result.head_gradient = result.head_gradient.narrow(1, 0, dim).contiguous();
  }
  return result;
}

} // namespace moe::cpu
