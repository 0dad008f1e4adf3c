#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "moe/conversion/gguf_file.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// A tokenizer as llama.cpp's metadata, filled up to `vocab_size` tokens. Throws `Error` for
/// tokenizers that llama.cpp would cut differently: supported is byte-level BPE with the
/// patterns of GPT-2, Qwen2 and Llama 3, without a normaliser.
std::vector<std::pair<std::string, GgufValue>> gguf_tokenizer(
    const Tokenizer& tokenizer, int64_t vocab_size);

} // namespace moe
