#include "moe/data/tokenizer/pattern.h"

#include <string>
#include <vector>

#include "moe/data/tokenizer/pre_tokenizer.h"
#include "moe/data/tokenizer/unicode_classes.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

using Pieces = std::vector<std::string>;

Pieces split(Pattern pattern, std::string_view text) {
  Pieces pieces;
  for_each_piece(pattern, text, [&](std::string_view piece) { pieces.emplace_back(piece); });
  return pieces;
}

} // namespace

TEST_CASE("Pattern::qwen2 cuts as its regular expression does", "[data]") {
  const auto [text, pieces] = GENERATE(table<std::string, Pieces>({
      {"Hello world", {"Hello", " world"}},
      {"it's THEY'LL 'sup 'ſt", {"it", "'s", " THEY", "'LL", " '", "sup", " '", "ſt"}},
      {"'ſt", {"'ſ", "t"}},
      {"2025!", {"2", "0", "2", "5", "!"}},
      {" 12", {" ", "1", "2"}},
      {"(word) \"x\"", {"(word", ")", " \"", "x", "\""}},
      {"a  b   c", {"a", " ", " b", "  ", " c"}},
      {"a   ", {"a", "   "}},
      {"a \n\n  b", {"a", " \n\n", " ", " b"}},
      {"x;\r\n\n y", {"x", ";\r\n\n", " y"}},
      {"\n\nword", {"\n\n", "word"}},
      {"\tword", {"\tword"}},
      {"世界、😀!", {"世界", "、😀!"}},
      {"e\u0301te", {"e", "\u0301te"}},
      {"\u3000世", {"\u3000世"}},
      {"\u3000\u3000 ", {"\u3000\u3000 "}},
      {"", {}},
  }));
  CAPTURE(text);
  CHECK(split(Pattern::qwen2, text) == pieces);
}

TEST_CASE("Pattern::llama3 takes three digits at a time", "[data]") {
  CHECK(split(Pattern::llama3, "x12345 6") == Pieces{"x", "123", "45", " ", "6"});
}

TEST_CASE("Pattern::gpt2 cuts as its regular expression does", "[data]") {
  const auto [text, pieces] = GENERATE(table<std::string, Pieces>({
      {"it's IT'S", {"it", "'s", " IT", "'", "S"}},
      {"I'll we've", {"I", "'ll", " we", "'ve"}},
      {"a 2025 !?", {"a", " 2025", " !?"}},
      {"a  \n b", {"a", "  \n", " b"}},
      {"a\tb", {"a", "\t", "b"}},
      {" 's", {" '", "s"}},
  }));
  CAPTURE(text);
  CHECK(split(Pattern::gpt2, text) == pieces);
}

TEST_CASE("A byte that is no UTF-8 is a piece of its own", "[data]") {
  CHECK(split(Pattern::qwen2, "ab\xE4\xB8 cd") == Pieces{"ab", "\xE4", "\xB8", " cd"});
  // The text before it is cut as if it ended there.
  CHECK(split(Pattern::qwen2, "a  \xFF") == Pieces{"a", "  ", "\xFF"});
}

TEST_CASE("character_class follows Unicode 16", "[data]") {
  CHECK(character_class(U'a') == CharacterClass::letter);
  CHECK(character_class(U'٣') == CharacterClass::number);
  CHECK(character_class(U'½') == CharacterClass::number);
  CHECK(character_class(0x85) == CharacterClass::space);
  CHECK(character_class(0x180E) == CharacterClass::other); // was a space up to Unicode 6.2
  CHECK(character_class(0x0301) == CharacterClass::other);
  CHECK(character_class(0x31350) == CharacterClass::letter); // since Unicode 15
  CHECK(character_class(0x1C89) == CharacterClass::letter);  // since Unicode 16
  CHECK(character_class(0x88F) == CharacterClass::other);    // since Unicode 17
  CHECK(character_class(0x10FFFF) == CharacterClass::other);
}

TEST_CASE("find_pattern knows what pattern_regex says", "[data]") {
  for (const auto pattern : {Pattern::gpt2, Pattern::qwen2, Pattern::llama3}) {
    CHECK(find_pattern(pattern_regex(pattern)) == pattern);
  }
  CHECK(find_pattern("\\w+") == std::nullopt);
}
