#include "moe/data/utf8.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("append_utf8 and next_utf8 agree on every character", "[data]") {
  int wrong = 0;
  for (char32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point == 0xD800) {
      code_point = 0xE000;
    }
    std::string text;
    append_utf8(text, code_point);
    const auto step = next_utf8(text);
    wrong += !step.valid || step.code_point != code_point || step.length != text.size();
  }
  CHECK(wrong == 0);
}

TEST_CASE("next_utf8 steps over the maximal invalid part", "[data]") {
  const auto [text, length] = GENERATE(table<std::string, size_t>({
      {"\x80", 1},             // a byte that begins nothing
      {"\xC0\xAF", 1},         // over-long
      {"\xE0\x9F\xBF", 1},     // over-long
      {"\xED\xA0\x80", 1},     // a surrogate
      {"\xF4\x90\x80\x80", 1}, // past U+10FFFF
      {"\xF5\x80", 1},
      {"\xFF", 1},
      {"\xC3", 1}, // cut short
      {"\xC3 ", 1},
      {"\xE4\xB8", 2},
      {"\xE4\xB8 ", 2},
      {"\xF0\x9F\x98", 3},
      {"\xF0\x9F\x98\xC3", 3},
  }));
  CAPTURE(text);
  const auto step = next_utf8(text);
  CHECK_FALSE(step.valid);
  CHECK(step.length == length);
  CHECK(step.code_point == 0xFFFD);
}

TEST_CASE("valid_utf8_prefix ends before the first invalid byte", "[data]") {
  for (size_t position = 0; position < 40; ++position) {
    CAPTURE(position);
    std::string text(40, 'x');
    text[position] = '\xFF';
    CHECK(valid_utf8_prefix(text) == position);
  }
  CHECK(valid_utf8_prefix("") == 0);
  CHECK(is_valid_utf8("Grüße, 世界 😀"));
  CHECK_FALSE(is_valid_utf8("caf\xC3"));
}

TEST_CASE("lossy_utf8 replaces each maximal invalid part once", "[data]") {
  CHECK(lossy_utf8("Grüße") == "Grüße");
  CHECK(lossy_utf8("a\xE4\xB8 b") == "a\uFFFD b");
  CHECK(lossy_utf8("\xED\xA0\x80") == "\uFFFD\uFFFD\uFFFD");
  CHECK(lossy_utf8("\xF0\x9F\x98") == "\uFFFD");
  CHECK(lossy_utf8("") == "");
}

TEST_CASE("incomplete_utf8_suffix counts bytes that may become a character", "[data]") {
  const auto [text, length] = GENERATE(table<std::string, size_t>({
      {"", 0},
      {"abc", 0},
      {"世", 0},
      {"a\xC3", 1},
      {"a\xE4", 1},
      {"a\xE4\xB8", 2},
      {"\xF0\x9F\x98", 3},
      {"\xED\xA0", 0}, // never a character: a surrogate
      {"\xE0\x80", 0}, // never a character: over-long
      {"\xC0", 0},
      {"\x80\x80\x80\x80", 0},
      {"\xF0\x9F\x98\x80", 0},
  }));
  CAPTURE(text);
  CHECK(incomplete_utf8_suffix(text) == length);
}

TEST_CASE("last_utf8 reads backwards", "[data]") {
  CHECK(last_utf8("a").code_point == U'a');
  CHECK(last_utf8("xé").code_point == U'é');
  CHECK(last_utf8("x世").length == 3);
  CHECK(last_utf8("😀").code_point == U'😀');
  CHECK_FALSE(last_utf8("x\xE4\xB8").valid);
  CHECK_FALSE(last_utf8("é\x80").valid);
  CHECK(last_utf8("\x80\x80\x80\x80\x80").length == 1);
}
