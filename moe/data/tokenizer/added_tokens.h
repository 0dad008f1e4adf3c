#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Finds added tokens in text: the leftmost match, of those that begin there the longest.
class AddedTokenFinder {
 public:
  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  bool empty() const {
    return tokens_.empty();
  }

  /// Calls `section(text, offset)` for text between tokens, never empty, and `token(id)` for
  /// each token, in order. `with_special`: special tokens count as tokens, too.
  template <class Section, class Token>
  void for_each(
      std::string_view text, bool with_special, Section&& section, Token&& token) const {
    size_t begin = 0; // of the text that is still to be handed out
    for (Match match = find(text, 0); match.token; match = find(text, match.end)) {
      if ((match.token->special && !with_special) || !stands_alone(text, match)) {
        continue;
      }
      const auto [start, stop] = with_spaces(text, match, begin);
      if (start > begin) {
        section(text.substr(begin, start - begin), begin);
      }
      token(match.token->id);
      begin = stop;
    }
    if (begin < text.size()) {
      section(text.substr(begin), begin);
    }
  }

 private:
  struct Match {
    size_t begin = 0;
    size_t end = 0;
    const AddedToken* token = nullptr; ///< null: there is none
  };

  Match find(std::string_view text, size_t from) const;
  const AddedToken* longest_prefix(std::string_view text) const;
  static bool stands_alone(std::string_view text, const Match& match);
  static std::pair<size_t, size_t> with_spaces(
      std::string_view text, const Match& match, size_t begin);

  std::vector<AddedToken> tokens_; ///< ordered by content
  std::array<bool, 256> is_first_byte_{};
};

} // namespace moe
