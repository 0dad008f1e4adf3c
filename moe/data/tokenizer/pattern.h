#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace moe {

/// A regular expression by which a family of tokenizers cuts text into pieces. Each is a
/// hand-written scanner here: faster than a regex engine, and with one Unicode version
/// (`unicode_classes.h`) wherever it runs.
enum class Pattern {
  none,   ///< the whole text is one piece
  gpt2,   ///< GPT-2's, built into ByteLevel
  qwen2,  ///< words with one leading character, digits one at a time
  llama3, ///< the same with up to three digits (also cl100k)
};

/// The expression as it is written in `tokenizer.json`; empty for `none`.
std::string_view pattern_regex(Pattern pattern);

/// The pattern that is written so, if it is a known one.
std::optional<Pattern> find_pattern(std::string_view regex);

/// Bytes of the first piece of `text`, which must be valid UTF-8 and not empty.
size_t next_piece(Pattern pattern, std::string_view text);

} // namespace moe
