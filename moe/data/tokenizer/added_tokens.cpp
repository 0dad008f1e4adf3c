#include "moe/data/tokenizer/added_tokens.h"

#include <algorithm>

#include "moe/data/tokenizer/unicode_classes.h"
#include "moe/data/utf8.h"

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
    return {};
  }
  for (size_t position = from; position < text.size(); ++position) {
    if (is_first_byte_[static_cast<uint8_t>(text[position])]) {
      if (const auto* token = longest_prefix(text.substr(position))) {
        return {position, position + token->content.size(), token};
      }
    }
  }
  return {};
}

/// Whether no word goes on before or behind a token that must be a word of its own.
bool AddedTokenFinder::stands_alone(std::string_view text, const Match& match) {
  if (!match.token->single_word) {
    return true;
  }
  static const auto word = unicode_ranges("word").value();
  const auto is_word = [](const Utf8Step& step) {
    return step.valid && contains(word, step.code_point);
  };
  return !(match.begin > 0 && is_word(last_utf8(text.substr(0, match.begin)))) &&
         !(match.end < text.size() && is_word(next_utf8(text.substr(match.end))));
}

/// Where a match begins and ends with the spaces that it swallows, not before `begin`.
std::pair<size_t, size_t> AddedTokenFinder::with_spaces(
    std::string_view text, const Match& match, size_t begin) {
  const auto is_space = [](const Utf8Step& step) {
    return step.valid && character_class(step.code_point) == CharacterClass::space;
  };
  size_t start = match.begin;
  size_t stop = match.end;
  while (match.token->lstrip && start > begin) {
    const auto step = last_utf8(text.substr(0, start));
    if (!is_space(step)) {
      break;
    }
    start -= step.length;
  }
  while (match.token->rstrip && stop < text.size()) {
    const auto step = next_utf8(text.substr(stop));
    if (!is_space(step)) {
      break;
    }
    stop += step.length;
  }
  return {start, stop};
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
