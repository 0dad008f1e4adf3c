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

} // namespace moe
