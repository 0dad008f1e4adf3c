#pragma once

#include <torch/types.h>

#include <string>
#include <vector>

#include "moe/data/token_file.h"

namespace moe {

/// Token ids of a text, of which an operation looks at the hidden states.
struct TextSample {
  std::string name;
  std::vector<torch::Tensor> batches; ///< [B, S] int64
};

/// About `count` tokens of a file: windows of `sequence_length` from everywhere in it, the same
/// for the same seed. Shorter windows if the text is shorter.
TextSample sample_text(
    const std::string& name,
    const TokenFile& tokens,
    int64_t count,
    int64_t sequence_length,
    int64_t seed);

/// Ids drawn evenly from a vocabulary: what there is where there is no text.
TextSample random_text(
    int64_t vocab_size, int64_t count, int64_t sequence_length, int64_t seed);

} // namespace moe
