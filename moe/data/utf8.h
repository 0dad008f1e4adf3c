#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace moe {

/// One step through bytes that are meant to be UTF-8.
struct Utf8Step {
  char32_t code_point = 0xFFFD; ///< the character, or U+FFFD where the bytes are none
  size_t length = 0;            ///< bytes to step over: the character, or the longest prefix
                                ///< of one (at least 1)
  bool valid = false;           ///< whether these bytes are a character
};

/// Reads the character at the beginning of `text`, which must not be empty. Over-long forms,
/// surrogates and values past U+10FFFF are invalid, as Unicode says.
Utf8Step next_utf8(std::string_view text);

/// Reads the character at the end of `text`, which must not be empty; where there is none, the
/// last byte is invalid.
Utf8Step last_utf8(std::string_view text);

/// Bytes at the beginning of `text` that are valid UTF-8.
size_t valid_utf8_prefix(std::string_view text);

/// Whether all of `text` is valid UTF-8.
bool is_valid_utf8(std::string_view text);

/// Bytes at the end of `text` that are the beginning of a character whose rest is missing.
size_t incomplete_utf8_suffix(std::string_view text);

/// `text` with one U+FFFD for each maximal part that is no UTF-8 (the practice that Unicode
/// recommends, the same as Python's `errors="replace"`).
std::string lossy_utf8(std::string_view text);

/// Appends the UTF-8 of `code_point`, which must be a Unicode scalar value.
void append_utf8(std::string& text, char32_t code_point);

} // namespace moe
