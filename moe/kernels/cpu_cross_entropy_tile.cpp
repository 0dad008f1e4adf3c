#include "moe/kernels/cpu_cross_entropy_tile.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "moe/kernels/cpu_gemm.h"
#include "moe/kernels/cpu_rounding.h"
#include "moe/kernels/cpu_softmax.h"
#include "moe/kernels/cpu_transpose.h"

namespace moe::cpu {
namespace {

/// What a thread works in. What is rounded afterwards, and that, is there for bfloat16 only.
struct VocabularyScratch {
  VocabularyScratch(int64_t vocab_size, int64_t dim, int64_t lanes, bool rounds)
      : inputs(0),
        gradient(inputs + dim * lanes),
        maximum(gradient + dim * lanes),
        sum(maximum + lanes),
        chunk_sum(sum + lanes),
        target(chunk_sum + lanes),
        rows(target + lanes),
        logits(rows + 2 * dim),
        factor(logits + (rounds ? vocab_size * lanes : 0)),
        size(factor + (rounds ? kVocabularyChunk * lanes / 2 : 0)) {}

  int64_t inputs;    ///< X^T [D, lanes]
  int64_t gradient;  ///< dX^T [D, lanes]
  int64_t maximum;   ///< [lanes]
  int64_t sum;       ///< [lanes]
  int64_t chunk_sum; ///< [lanes]: sums of sums lose less
  int64_t target;    ///< [lanes]: the target's logit
  int64_t rows;      ///< two rows [D]
  int64_t logits;    ///< L^T [V, lanes], then E^T
  int64_t factor;    ///< E^T of a chunk as a right factor
  int64_t size;
};

template <typename Element>
VocabularyScratch scratch_of(const VocabularyHead<Element>& head, int64_t lanes) {
  return {head.vocab_size, head.dim, lanes, /*rounds=*/!std::is_same_v<Element, float>};
}

/// X^T as a right factor; zeros in the lanes past the last row.
void transpose_inputs(const VocabularyTile<float>& tile, int64_t dim, float* inputs) {
  transpose({tile.inputs, dim}, tile.rows, dim, {inputs, tile.lanes});
  for (int64_t d = 0; tile.rows < tile.lanes && d < dim; ++d) {
    std::fill(inputs + d * tile.lanes + tile.rows, inputs + (d + 1) * tile.lanes, 0.0F);
  }
}

void transpose_inputs(const VocabularyTile<uint16_t>& tile, int64_t dim, uint16_t* inputs) {
  // Two neighbours in a row are one of the pairs, so pairs are transposed as words.
  const auto words = [](auto* halves) { return reinterpret_cast<float*>(halves); };
  auto* const from = reinterpret_cast<const float*>(tile.inputs);
  transpose({from, dim / 2}, tile.rows, dim / 2, {words(inputs), tile.lanes});
  for (int64_t d = 0; tile.rows < tile.lanes && d < dim; d += 2) {
    uint16_t* const pairs = inputs + d * tile.lanes;
    std::fill(pairs + 2 * tile.rows, pairs + 2 * tile.lanes, 0);
  }
}

template <typename Element>
void compute_logits(
    const VocabularyHead<Element>& head,
    const VocabularyTile<Element>& tile,
    Element* inputs,
    float* all_logits,
    float* maximum) {
  transpose_inputs(tile, head.dim, inputs);
  std::fill_n(maximum, tile.lanes, -std::numeric_limits<float>::infinity());
  for (int64_t v = 0; v < head.vocab_size; v += kVocabularyChunk) {
    const auto count = std::min(kVocabularyChunk, head.vocab_size - v);
    float* const logits = all_logits + v * tile.lanes;
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

/// dX from dX^T without its factors, which are `factor` [lanes]: weight / Z.
template <typename Element>
void scale_gradient(
    const VocabularyHead<Element>& head,
    const VocabularyTile<Element>& tile,
    const float* gradient,
    const float* factor,
    float* spare) {
  transpose({gradient, tile.lanes}, head.dim, tile.rows, {tile.inputs_gradient, head.dim});
  for (int64_t i = 0; i < tile.rows; ++i) {
    const float* const target =
        as_float(head.weights + tile.targets[i] * head.dim, head.dim, spare);
    float* const out = tile.inputs_gradient + i * head.dim;
    for (int64_t d = 0; d < head.dim; ++d) {
      out[d] = factor[i] * out[d] - tile.weights[i] * target[d];
    }
  }
}

/// Two rows of a right factor.
void put_two(const float* first, const float* second, int64_t columns, float* to) {
  std::copy_n(first, columns, to);
  std::copy_n(second, columns, to + columns);
}
void put_two(const float* first, const float* second, int64_t columns, uint16_t* to) {
  round_to_pair(first, second, columns, to);
}

/// The rows that the head's gradient takes: factor · X, and zeros past the last row.
template <typename Element>
void scale_inputs(
    const VocabularyTile<Element>& tile, int64_t dim, const float* factor, float* spare) {
  for (int64_t i = 0; i < tile.lanes; i += 2) {
    for (int64_t half = 0; half < 2; ++half) {
      const bool is_row = i + half < tile.rows;
      float* const scaled = spare + half * dim;
      const Element* const input = tile.inputs + (is_row ? i + half : 0) * dim;
      const float* const values = as_float(input, dim, scaled);
      for (int64_t d = 0; d < dim; ++d) {
        scaled[d] = factor[i + half] * values[d];
      }
    }
    for (int64_t d = 0; d < dim; d += kHeadPanelColumns) {
      const auto count = std::min(kHeadPanelColumns, dim - d);
      Element* const to = tile.scaled_inputs + d * tile.lanes + i * count;
      put_two(spare + d, spare + dim + d, count, to);
    }
  }
}

/// Puts e^(logit − maximum) in place of the logits, their sums into `sum`, and what the
/// gradients need of them where it belongs.
template <typename Element>
void sum_exponentials(
    const VocabularyHead<Element>& head,
    const VocabularyTile<Element>& tile,
    float* logits,
    float* scratch) {
  const auto layout = scratch_of(head, tile.lanes);
  float* const sum = scratch + layout.sum;
  float* const chunk_sum = scratch + layout.chunk_sum;
  std::fill_n(sum, tile.lanes, 0.0F);
  for (int64_t v = 0; v < head.vocab_size; v += kVocabularyChunk) {
    const auto count = std::min(kVocabularyChunk, head.vocab_size - v);
    float* const computed = logits + v * tile.lanes;
    std::fill_n(chunk_sum, tile.lanes, 0.0F);
    exponentiate(count, tile.lanes, computed, scratch + layout.maximum, chunk_sum);
    for (int64_t i = 0; i < tile.lanes; ++i) {
      sum[i] += chunk_sum[i];
    }
    if (tile.inputs_gradient != nullptr) {
      Element* const kept = tile.exponentials + v * tile.lanes;
      put_rows(computed, count * tile.lanes, kept);
      Element* const factor = std::is_same_v<Element, float>
                                  ? kept
                                  : reinterpret_cast<Element*>(scratch + layout.factor);
      put_factor(computed, count, tile.lanes, factor);
      const auto depth = factor_depth<Element>(count);
      gemm(
          head.dim,
          tile.lanes,
          depth,
          {head.transposed + v * head.dim, depth},
          {factor, tile.lanes},
          {scratch + layout.gradient, tile.lanes},
          v == 0 ? Store::overwrite : Store::add);
    }
  }
}

template <typename Element>
void compute_vocabulary_tile(
    const VocabularyHead<Element>& head, const VocabularyTile<Element>& tile, float* scratch) {
  const auto layout = scratch_of(head, tile.lanes);
  float* const logits = place_to_compute(tile.exponentials, scratch + layout.logits);
  float* const maximum = scratch + layout.maximum;
  float* const sum = scratch + layout.sum;
  float* const target = scratch + layout.target;
  auto* const inputs = reinterpret_cast<Element*>(scratch + layout.inputs);
  compute_logits(head, tile, inputs, logits, maximum);
  for (int64_t i = 0; i < tile.rows; ++i) {
    target[i] = logits[tile.targets[i] * tile.lanes + i];
  }
  sum_exponentials(head, tile, logits, scratch);
  for (int64_t i = 0; i < tile.rows; ++i) {
    tile.losses[i] = maximum[i] + std::log(sum[i]) - target[i];
  }
  if (tile.inputs_gradient != nullptr) {
    float* const factor = sum;
    for (int64_t i = 0; i < tile.lanes; ++i) {
      factor[i] = i < tile.rows ? tile.weights[i] / sum[i] : 0.0F;
    }
    float* const spare = scratch + layout.rows;
    scale_gradient(head, tile, scratch + layout.gradient, factor, spare);
    scale_inputs(tile, head.dim, factor, spare);
  }
}

} // namespace

int64_t tile_scratch_size(const VocabularyHead<float>& head, int64_t lanes) {
  return scratch_of(head, lanes).size;
}

int64_t tile_scratch_size(const VocabularyHead<uint16_t>& head, int64_t lanes) {
  return scratch_of(head, lanes).size;
}

void compute_tile(
    const VocabularyHead<float>& head, const VocabularyTile<float>& tile, float* scratch) {
  compute_vocabulary_tile(head, tile, scratch);
}

void compute_tile(
    const VocabularyHead<uint16_t>& head,
    const VocabularyTile<uint16_t>& tile,
    float* scratch) {
  compute_vocabulary_tile(head, tile, scratch);
}

} // namespace moe::cpu
