#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/conversion/gguf_file.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// What a folder says about texts besides its tokenizer.
struct GgufTextEnds {
  std::optional<int32_t> end_of_text; ///< ends a text; the tokenizer's own if not given
  std::string chat_template;          ///< Jinja; empty for none
};

/// A tokenizer as llama.cpp's metadata, filled up to `vocab_size` tokens. Throws `Error` for
/// tokenizers that llama.cpp would cut differently: supported is byte-level BPE with the
/// patterns of GPT-2, Qwen2 and Llama 3, without a normaliser or with NFC (see
/// `normalizes_text`).
std::vector<std::pair<std::string, GgufValue>> gguf_tokenizer(
    const Tokenizer& tokenizer, int64_t vocab_size, const GgufTextEnds& ends = {});

/// Whether the tokenizer brings text into NFC, which llama.cpp does not: text that is not in it
/// already is cut differently there.
bool normalizes_text(const Tokenizer& tokenizer);

} // namespace moe
