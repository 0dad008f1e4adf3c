#pragma once

#include <string>
#include <string_view>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Reads the text of a `tokenizer.json`. Throws `Error` that begins with `name` and says what
/// is wrong or which part is not supported.
TokenizerDefinition parse_tokenizer_json(std::string_view text, const std::string& name);

/// Writes what `parse_tokenizer_json` reads and Hugging Face's `tokenizers` understands.
std::string format_tokenizer_json(const TokenizerDefinition& definition);

/// How the components are written whose steps are those of tokenizers made here; empty for
/// others.
std::string format_standard_pre_tokenizer(const TokenizerDefinition& definition);
std::string format_standard_decoder(const TokenizerDefinition& definition);

} // namespace moe
