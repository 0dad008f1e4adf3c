#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace moe {

/// The character that stands for `byte` in byte-level vocabularies: itself where it prints in
/// Latin-1, else one from U+0100 on (a space is U+0120, "Ġ").
char32_t byte_level_character(uint8_t byte);

/// `bytes` in that alphabet, as UTF-8.
std::string to_byte_level(std::string_view bytes);

/// The bytes that `text` stands for, or nothing if a character is not of that alphabet.
std::optional<std::string> from_byte_level(std::string_view text);

} // namespace moe
