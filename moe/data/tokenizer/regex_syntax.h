#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/unicode_classes.h"

namespace moe {

/// A part of a regular expression: one character out of a set, or syntax between such parts.
struct RegexPart {
  std::vector<CodePointRange> characters; ///< ascending and apart; empty for syntax
  std::string syntax;                     ///< means the same in PCRE2
};

/// Takes a regular expression in Oniguruma's Ruby syntax (what Hugging Face's tokenizers use)
/// apart. Classes and properties are resolved by our own Unicode tables, so an engine needs
/// none.
///
/// Throws `Error` that names what is not supported.
std::vector<RegexPart> parse_regex(std::string_view regex);

} // namespace moe
