#pragma once

#include <string_view>

#include "moe/data/tokenizer/pattern.h"
#include "moe/data/utf8.h"

namespace moe {

/// Calls `visit(piece)` for the pieces of `text` in order; joined they are `text`.
///
/// A byte that is not part of valid UTF-8 is a piece of its own, and the text on either side
/// of it is cut as if it stood alone. With `Pattern::none` everything is one piece.
template <class Visit>
void for_each_piece(Pattern pattern, std::string_view text, Visit&& visit) {
  while (!text.empty()) {
    auto valid = pattern == Pattern::none ? text : text.substr(0, valid_utf8_prefix(text));
    text.remove_prefix(valid.size());
    while (!valid.empty()) {
      const auto piece = valid.substr(0, next_piece(pattern, valid));
      valid.remove_prefix(piece.size());
      visit(piece);
    }
    if (!text.empty()) {
      visit(text.substr(0, 1));
      text.remove_prefix(1);
    }
  }
}

} // namespace moe
