#pragma once

#include <filesystem>

#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// The tokenizer with the tokens of ChatML, `<|im_start|>` and `<|im_end|>`.
Tokenizer with_chatml_tokens(const Tokenizer& tokenizer);

/// Makes a folder say that its model chats in ChatML: `tokenizer_config.json` gets the chat
/// template and `<|im_end|>` as the token that ends a text, `generation_config.json` its id
/// beside those that it has. Other keys stay. `tokenizer` is the one with the tokens. Throws
/// `Error` that names the file when one is damaged.
void write_chatml_template(const std::filesystem::path& folder, const Tokenizer& tokenizer);

} // namespace moe
