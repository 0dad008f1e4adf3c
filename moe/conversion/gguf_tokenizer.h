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
/// patterns of GPT-2, GPT-4o (gpt-oss), Qwen2, Llama 3 and DeepSeek-V3, without a
/// normaliser or with NFC, and BPE with byte fallback that writes spaces as U+2581, as Llama 2
/// and Mixtral have it.
GgufMetadata gguf_tokenizer(
    const Tokenizer& tokenizer, int64_t vocab_size, const GgufTextEnds& ends = {});

/// Which texts such a tokenizer cuts otherwise than llama.cpp nevertheless, in a sentence;
/// empty for none.
std::string gguf_tokenizer_notice(const Tokenizer& tokenizer);

} // namespace moe
