#pragma once

#include <cstdint>

// Private to moe/kernels/cpu_*.cpp; not installed. A tile of `cross_entropy`, of which
// cpu_cross_entropy.cpp tells what it is. `Element` is what the products read: float, or
// uint16_t for bfloat16.

namespace moe::cpu {

/// So many rows of the head are multiplied, then used, while their logits are in the cache.
constexpr int64_t kVocabularyChunk = 256;

/// The gradient of the head is computed by panels of so many columns.
constexpr int64_t kHeadPanelColumns = 128;

template <typename Element>
struct VocabularyHead {
  const Element* weights;    ///< [V, D]
  const Element* transposed; ///< chunks of the vocabulary, each [D, factor_depth of its rows]
  int64_t vocab_size;
  int64_t dim;
};

/// How deep a product over `count` rows is: pairs of bfloat16 have a row of zeros behind an odd
/// last one.
template <typename Element>
constexpr int64_t factor_depth(int64_t count) {
  return sizeof(Element) == sizeof(float) ? count : (count + 1) / 2 * 2;
}

/// Some rows of the batch and where their results go.
template <typename Element>
struct VocabularyTile {
  int64_t rows;
  int64_t lanes;
  const Element* inputs;  ///< [rows, D]
  const int64_t* targets; ///< [rows]
  const float* weights;   ///< [rows]
  float* losses;          ///< [rows]
  Element* exponentials;  ///< E^T [V, lanes], before that the logits; for bfloat16 E^T alone,
                          ///< and null without gradients
  float* inputs_gradient; ///< [rows, D]; null without gradients
  Element* scaled_inputs; ///< columns by panels, each [lanes, up to kHeadPanelColumns]; for
                          ///< bfloat16 in pairs
};

/// The floats of scratch that `compute_tile` takes.
int64_t tile_scratch_size(const VocabularyHead<float>& head, int64_t lanes);
int64_t tile_scratch_size(const VocabularyHead<uint16_t>& head, int64_t lanes);

/// Computes all that the tile points to, on a thread with `MatrixRegisters`.
void compute_tile(
    const VocabularyHead<float>& head, const VocabularyTile<float>& tile, float* scratch);
void compute_tile(
    const VocabularyHead<uint16_t>& head, const VocabularyTile<uint16_t>& tile, float* scratch);

} // namespace moe::cpu
