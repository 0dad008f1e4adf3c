#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

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

/// Code points that have something in common, ascending.
struct UnicodeTable {
  std::string_view name;
  std::span<const CodePointRange> ranges;
};

/// The generated tables: general categories of two letters (`Lu`, `Nd`, ...) and the script
/// `Han` by Unicode 16.0; `space` is `\s`; `digit`, `word` and `punctuation` are what Hugging
/// Face's `Digits`, `single_word` and `Punctuation` go by; `newer` are characters that came
/// after Unicode 9.0 and combine or decompose, which its normal forms leave alone.
std::span<const UnicodeTable> unicode_tables();

/// The ranges of a table or of a general category of one letter (`L`), ascending and apart.
/// Nothing for a name that there is not.
std::optional<std::vector<CodePointRange>> unicode_ranges(std::string_view name);

/// All code points that are not in `ranges`, which must be ascending and apart.
std::vector<CodePointRange> complement(std::span<const CodePointRange> ranges);

/// Whether the code point is in `ranges`, which must be ascending.
bool contains(std::span<const CodePointRange> ranges, char32_t code_point);

} // namespace moe
