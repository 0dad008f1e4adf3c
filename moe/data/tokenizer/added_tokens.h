#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Finds added tokens in text: the leftmost match, of those that begin there the longest.
class AddedTokenFinder {
 public:
  /// A token in the text. `token` is null when there is none (then `position` is the end).
  struct Match {
    size_t position = 0;
    const AddedToken* token = nullptr;
  };

  explicit AddedTokenFinder(std::vector<AddedToken> tokens);

  /// The first match at `from` or later.
  Match find(std::string_view text, size_t from) const;

  bool empty() const {
    return tokens_.empty();
  }

 private:
  const AddedToken* longest_prefix(std::string_view text) const;

  std::vector<AddedToken> tokens_; ///< ordered by content
  std::array<bool, 256> is_first_byte_{};
};

} // namespace moe
