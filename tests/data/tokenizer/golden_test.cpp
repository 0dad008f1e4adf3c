#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"

using namespace moe;
using namespace moe::test;

TEST_CASE("Tokenizer: ids are those of Hugging Face's library", "[data]") {
  const auto name =
      GENERATE(std::string("trained"), std::string("gpt2"), std::string("llama3"));
  CAPTURE(name);
  const auto tokenizer = Tokenizer::load(tokenizer_fixture(name + ".json"));
  const auto texts = golden_texts();
  const auto expected = golden_ids(name);
  REQUIRE(texts.size() > 500);
  REQUIRE(texts.size() == expected.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i, texts[i]);
    REQUIRE(tokenizer.encode(texts[i]) == expected[i]);
    REQUIRE(tokenizer.decode(expected[i]) == texts[i]);
  }
}

TEST_CASE(
    "Tokenizer: other families give the ids and texts of Hugging Face's library", "[data]") {
  const auto name = GENERATE(
      as<std::string>(),
      "neox",
      "digits",
      "qwen35",
      "deepseek",
      "o200k",
      "llama2",
      "metaspace");
  CAPTURE(name);
  const auto tokenizer = Tokenizer::load(tokenizer_fixture(name + ".json"));
  const auto again = Tokenizer::from_json(tokenizer.to_json(), "again");
  auto texts = golden_texts();
  const auto with_flags = hexadecimal_texts("flags.hex");
  texts.insert(texts.end(), with_flags.begin(), with_flags.end());
  const auto expected = golden_ids(name);
  const auto decoded = hexadecimal_texts(name + ".decoded");
  REQUIRE(texts.size() == expected.size());
  REQUIRE(texts.size() == decoded.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    CAPTURE(i, texts[i]);
    REQUIRE(tokenizer.encode(texts[i]) == expected[i]);
    REQUIRE(again.encode(texts[i]) == expected[i]);
    REQUIRE(tokenizer.decode(expected[i]) == decoded[i]);
  }
}

// The merges in trained.json are also those of Hugging Face's trainer (make_goldens.py).
TEST_CASE("Tokenizer::train_bpe gives the golden tokenizer, in any order", "[data]") {
  auto texts = golden_texts();
  const auto expected = Tokenizer::load(tokenizer_fixture("trained.json")).to_json();
  CHECK(Tokenizer::train_bpe(views(texts), 600).to_json() == expected);
  std::reverse(texts.begin(), texts.end());
  CHECK(Tokenizer::train_bpe(views(texts), 600).to_json() == expected);
}

TEST_CASE("Tokenizer::to_json gives the file it was loaded from", "[data]") {
  std::ifstream file(tokenizer_fixture("trained.json"));
  const std::string text(std::istreambuf_iterator<char>(file), {});
  CHECK(Tokenizer::from_json(text, "trained.json").to_json() == text);
}
