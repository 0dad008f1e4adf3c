#pragma once

#include <cstdint>
#include <span>

namespace moe {

/// What the patterns of pre-tokenizers tell apart.
enum class CharacterClass : uint8_t {
  other,  ///< `[^\s\p{L}\p{N}]`: punctuation, symbols, marks, controls, unassigned
  letter, ///< `\p{L}`
  number, ///< `\p{N}`
  space,  ///< `\s`
};

/// The class of any code point up to U+10FFFF, by Unicode 16.0.
CharacterClass character_class(char32_t code_point);

/// Code points `first` to `last`, both included.
struct CodePointRange {
  char32_t first;
  char32_t last;
};

/// The tables behind `character_class`, ascending.
std::span<const CodePointRange> letter_ranges();
std::span<const CodePointRange> number_ranges();
std::span<const CodePointRange> space_ranges();

} // namespace moe
