#include "moe/data/ascii_sentences.h"

#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("without_ascii_sentences keeps sentences of the other script", "[data]") {
  CHECK(
      without_ascii_sentences("これは本です。apt install を使います。終わり！\n", 0.05) ==
      "これは本です。終わり！\n");
  CHECK(without_ascii_sentences("一\n\n$ apt update\n\n二\n三", 0.05) == "一\n\n二\n三\n");
  CHECK(without_ascii_sentences("1. あいう。次", 0.5) == "1. あいう。次\n");
  CHECK(without_ascii_sentences("only ASCII", 0.05).empty());
  CHECK(without_ascii_sentences("", 0.05).empty());
}
