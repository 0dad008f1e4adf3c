#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// What llama.cpp's tokenizer "llama" (SentencePiece's byte pairs) needs besides the tokens. It
/// merges the two neighbours whose union is the token of the highest score, whatever they are.
struct GgufPieces {
  std::vector<float> scores; ///< [vocab_size]
  bool add_space_prefix = false;
  std::string notice; ///< which texts it cuts otherwise nevertheless; empty for none
};

/// Throws `Error` for a tokenizer that would be cut differently: supported is BPE over plain
/// text with byte fallback, where spaces become U+2581, and where every two tokens whose union
/// is a token are merged into it, by the rank of that token.
GgufPieces gguf_pieces(const TokenizerDefinition& definition, int64_t vocab_size);

} // namespace moe
