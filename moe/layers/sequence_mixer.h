#pragma once

#include <torch/types.h>

#include <memory>
#include <optional>
#include <vector>

#include "moe/layers/rotary.h"

namespace moe {

/// What a sequence mixer remembers of the tokens it has seen, in one layer. Its memory is
/// allocated once and does not grow.
class MixerState {
 public:
  virtual ~MixerState() = default;
  /// Bytes of memory, known from the moment of creation.
  virtual int64_t bytes() const = 0;
};

/// Where the documents of a packed batch begin: `starts[b]` lists, for row b, the position of
/// the first token of each document, beginning with 0 and ascending.
struct DocumentStarts {
  std::vector<std::vector<int64_t>> starts;
};

/// Reads them off `documents` [B, S] int64, the running number of each token's document.
DocumentStarts document_starts(const torch::Tensor& documents);

/// What a mixer needs besides its input.
struct SequenceContext {
  RotaryTable rotary;          ///< of the positions of this input
  MixerState* state = nullptr; ///< the tokens before this input; none when training
  const DocumentStarts* documents = nullptr; ///< keeps tokens of different documents apart
};

/// The part of a decoder block in which tokens see each other. Attention is one; others can
/// take its place without a change to the decoder.
class SequenceMixer {
 public:
  virtual ~SequenceMixer() = default;

  /// `input` [B, S, D] -> [B, S, D]. With a state, the input continues the tokens it holds.
  virtual torch::Tensor mix(const torch::Tensor& input, const SequenceContext& context) = 0;

  /// An empty state for `capacity` tokens of each of `batch_size` sequences.
  virtual std::unique_ptr<MixerState> make_state(
      int64_t batch_size, int64_t capacity) const = 0;
};

} // namespace moe
