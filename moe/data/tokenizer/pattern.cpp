#include "moe/data/tokenizer/pattern.h"

#include <array>
#include <cstdint>

#include "moe/data/tokenizer/unicode_classes.h"

namespace moe {
namespace {

using enum CharacterClass;

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr auto kAsciiClass = [] {
  std::array<CharacterClass, 128> table{};
  for (int c = 0; c < 128; ++c) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool is_space = c == ' ' || (c >= '\t' && c <= '\r');
    table[c] = is_letter ? letter : c >= '0' && c <= '9' ? number : is_space ? space : other;
  }
  return table;
}();

/// Reads characters of valid UTF-8; past the end there is one of length 0.
class Scanner {
 public:
  struct Character {
    CharacterClass kind = other;
    uint8_t length = 0;
    char first_byte = '\0';

    bool is(CharacterClass wanted) const {
      return length > 0 && kind == wanted;
    }
    bool is_newline() const {
      return first_byte == '\n' || first_byte == '\r';
    }
  };

  explicit Scanner(std::string_view text) : text_(text) {}

  Character at(size_t position) const {
    if (position >= text_.size()) {
      return {};
    }
    const char first = text_[position];
    const auto lead = static_cast<uint8_t>(first);
    if (lead < 0x80) {
      return {kAsciiClass[lead], 1, first};
    }
    const auto bits = [&](size_t i) -> char32_t { return text_[position + i] & 0x3F; };
    if (lead < 0xE0) {
      return {character_class((lead & 0x1Fu) << 6 | bits(1)), 2, first};
    }
    if (lead < 0xF0) {
      return {character_class((lead & 0x0Fu) << 12 | bits(1) << 6 | bits(2)), 3, first};
    }
    const char32_t code_point = (lead & 0x07u) << 18 | bits(1) << 12 | bits(2) << 6 | bits(3);
    return {character_class(code_point), 4, first};
  }

  /// The end of the run of `kind` that begins at `position`, after `limit` characters at most.
  size_t end_of_run(CharacterClass kind, size_t position, size_t limit = SIZE_MAX) const {
    for (; limit > 0; --limit) {
      const auto character = at(position);
      if (!character.is(kind)) {
        break;
      }
      position += character.length;
    }
    return position;
  }

  size_t end_of_newlines(size_t position) const {
    while (at(position).is_newline()) {
      ++position;
    }
    return position;
  }

  /// `\s+(?!\S)|\s+`: spaces, the last one left for the word behind them.
  size_t end_of_spaces() const {
    size_t position = 0;
    size_t last = 0;
    for (auto character = at(0); character.is(space); character = at(position)) {
      last = position;
      position += character.length;
    }
    return position == text_.size() || last == 0 ? position : last;
  }

  /// `\s*[\r\n]+`: spaces up to the last line break among them; 0 if there is none.
  size_t end_of_line() const {
    size_t position = 0;
    size_t end = 0;
    for (auto character = at(0); character.is(space); character = at(position)) {
      position += character.length;
      if (character.is_newline()) {
        end = position;
      }
    }
    return end;
  }

  /// `'s|'t|'re|'ve|'m|'ll|'d`: 0 where there is none.
  size_t contraction(bool ignore_case) const {
    if (text_.size() < 2 || text_[0] != '\'') {
      return 0;
    }
    const auto lower = [&](size_t position) {
      const char c = position < text_.size() ? text_[position] : '\0';
      return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    };
    const char first = lower(1);
    const char second = lower(2);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') {
      return 2;
    }
    if (((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l')) {
      return 3;
    }
    // U+017F, the long s, is an s when case is ignored.
    return ignore_case && text_.substr(1, 2) == "\xC5\xBF" ? 3 : 0;
  }

 private:
  std::string_view text_;
};

size_t next_gpt2_piece(std::string_view text) {
  const Scanner scanner(text);
  if (const size_t end = scanner.contraction(/*ignore_case=*/false); end > 0) {
    return end;
  }
  const size_t start = text[0] == ' ' ? 1 : 0;
  const auto character = scanner.at(start);
  if (character.length > 0 && character.kind != space) {
    return scanner.end_of_run(character.kind, start);
  }
  return scanner.end_of_spaces();
}

size_t next_qwen2_piece(std::string_view text, size_t max_digits) {
  const Scanner scanner(text);
  const auto first = scanner.at(0);
  if (first.kind == letter) {
    return scanner.end_of_run(letter, 0);
  }
  if (first.kind == number) {
    return scanner.end_of_run(number, 0, max_digits);
  }
  if (const size_t end = scanner.contraction(/*ignore_case=*/true); end > 0) {
    return end;
  }
  const auto second = scanner.at(first.length);
  if (second.is(letter) && !first.is_newline()) {
    return scanner.end_of_run(letter, first.length);
  }
  if (first.kind == other) {
    return scanner.end_of_newlines(scanner.end_of_run(other, 0));
  }
  if (text[0] == ' ' && second.is(other)) {
    return scanner.end_of_newlines(scanner.end_of_run(other, 1));
  }
  const size_t end = scanner.end_of_line();
  return end > 0 ? end : scanner.end_of_spaces();
}

} // namespace

std::string_view pattern_regex(Pattern pattern) {
  switch (pattern) {
    case Pattern::gpt2:
      return kGpt2;
    case Pattern::qwen2:
      return kQwen2;
    case Pattern::llama3:
      return kLlama3;
    case Pattern::none:
      break;
  }
  return "";
}

std::optional<Pattern> find_pattern(std::string_view regex) {
  for (const auto pattern : {Pattern::gpt2, Pattern::qwen2, Pattern::llama3}) {
    if (pattern_regex(pattern) == regex) {
      return pattern;
    }
  }
  return std::nullopt;
}

size_t next_piece(Pattern pattern, std::string_view text) {
  switch (pattern) {
    case Pattern::gpt2:
      return next_gpt2_piece(text);
    case Pattern::qwen2:
      return next_qwen2_piece(text, 1);
    case Pattern::llama3:
      return next_qwen2_piece(text, 3);
    case Pattern::none:
      break;
  }
  return text.size();
}

} // namespace moe
