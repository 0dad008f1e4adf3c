#include "apps/visible_text.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("visible_text: what has no shape gets one", "[apps]") {
  CHECK(visible_text("the") == "the");
  CHECK(visible_text(" a b\n\t") == "␣a␣b↵⇥");
  CHECK(visible_text(" a b\n\t", /*mark_spaces=*/false) == " a b\n\t");
  CHECK(visible_text(std::string("\0\x1b[31m\x7f", 7)) == "␀␛[31m␡");
  CHECK(visible_text("\r", false) == "␍");
  CHECK(visible_text("Größe 日本 🙂") == "Größe␣日本␣🙂");
}

TEST_CASE("visible_text: nothing turns or hides other text", "[apps]") {
  CHECK(visible_text("a\u202Eb\u2066c\u200Bd\uFEFF") == "a⟨U+202E⟩b⟨U+2066⟩c⟨U+200B⟩d⟨U+FEFF⟩");
  CHECK(visible_text("\u0085\u2028") == "⟨U+0085⟩⟨U+2028⟩");
  CHECK(visible_text("שלום") == "שלום");
  // The joiner of a family is part of what one sees.
  CHECK(visible_text("👩\u200D👧") == "👩\u200D👧");
}

TEST_CASE("visible_text: bytes that are no UTF-8 are told as such", "[apps]") {
  CHECK(visible_text("\xE3\x81") == "⟨E3 81⟩");
  CHECK(visible_text("a\xFFz\xC0\xAF") == "a⟨FF⟩z⟨C0 AF⟩");
  CHECK(visible_text("\xED\xA0\x80") == "⟨ED A0 80⟩");
  CHECK(visible_text("").empty());
}
