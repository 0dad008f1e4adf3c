#include "moe/data/tokenizer/added_tokens.h"

#include <algorithm>

namespace moe {

AddedTokenFinder::AddedTokenFinder(std::vector<AddedToken> tokens)
    : tokens_(std::move(tokens)) {
  std::sort(tokens_.begin(), tokens_.end(), [](const auto& a, const auto& b) {
    return a.content < b.content;
  });
  for (const auto& token : tokens_) {
    is_first_byte_[static_cast<uint8_t>(token.content[0])] = true;
  }
}

AddedTokenFinder::Match AddedTokenFinder::find(std::string_view text, size_t from) const {
  if (tokens_.empty()) {
    return {text.size(), nullptr};
  }
  for (size_t position = from; position < text.size(); ++position) {
    if (is_first_byte_[static_cast<uint8_t>(text[position])]) {
      if (const auto* token = longest_prefix(text.substr(position))) {
        return {position, token};
      }
    }
  }
  return {text.size(), nullptr};
}

/// Narrows the ordered tokens down to those that begin like `text`, byte by byte.
const AddedToken* AddedTokenFinder::longest_prefix(std::string_view text) const {
  const AddedToken* longest = nullptr;
  auto first = tokens_.begin();
  auto last = tokens_.end();
  for (size_t depth = 0; first != last; ++depth) {
    // Of tokens that agree so far the one that ends here comes first.
    if (first->content.size() == depth) {
      longest = &*first;
      ++first;
    }
    if (depth == text.size()) {
      break;
    }
    const auto byte = static_cast<uint8_t>(text[depth]);
    const auto byte_of = [depth](const AddedToken& token) {
      return static_cast<uint8_t>(token.content[depth]);
    };
    first = std::partition_point(
        first, last, [&](const auto& token) { return byte_of(token) < byte; });
    last = std::partition_point(
        first, last, [&](const auto& token) { return byte_of(token) == byte; });
  }
  return longest;
}

} // namespace moe
