#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/data/tokenizer/pattern.h"
#include "moe/data/tokenizer/tokenizer_definition.h"
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

/// Cuts text into the pieces that are encoded one by one, as the steps of a `tokenizer.json`
/// say. Immutable; threads may share it.
class PreTokenizer {
 public:
  /// Throws `Error` when a regular expression is not supported.
  explicit PreTokenizer(const std::vector<PreTokenizerStep>& steps);
  ~PreTokenizer();

  /// Calls `visit(piece)` for each piece. `is_first`: the text begins the input.
  template <class Visit>
  void for_each(std::string_view text, bool is_first, Visit&& visit) const {
    if (is_scanner_) {
      for_each_piece(scanner_, text, std::forward<Visit>(visit));
      return;
    }
    for (const auto& piece : pieces(text, is_first)) {
      visit(std::string_view(piece));
    }
  }

 private:
  struct Step;
  std::vector<std::string> pieces(std::string_view text, bool is_first) const;

  std::vector<Step> steps_;
  bool is_scanner_; ///< all that is done is to cut by `scanner_`
  Pattern scanner_ = Pattern::none;
};

} // namespace moe
