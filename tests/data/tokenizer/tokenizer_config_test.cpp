#include "moe/data/tokenizer/tokenizer_config.h"

#include <filesystem>
#include <fstream>

#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
using namespace moe::test;

namespace {

void write(const std::filesystem::path& file, const std::string& text) {
  std::ofstream(file) << text;
}

/// A folder with the tokenizer of Llama 2's kind: `<s>` is 1 and `</s>` is 2.
void write_llama2(const TemporaryFolder& folder) {
  std::filesystem::copy_file(
      tokenizer_fixture("llama2.json"), folder.path() / "tokenizer.json");
}

} // namespace

TEST_CASE("tokenizer_config.json does not change what is put around a text", "[data]") {
  const TemporaryFolder folder;
  write_llama2(folder);
  write(
      folder.path() / "tokenizer_config.json",
      R"({"bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": false,
          "add_eos_token": true})");
  // As for AutoTokenizer: the post-processor of tokenizer.json counts.
  CHECK(Tokenizer::load(folder.path()).with_special_tokens({7}) == std::vector<int32_t>{1, 7});
}

TEST_CASE("tokenizer_config.json: tokens that it names are special", "[data]") {
  const TemporaryFolder folder;
  write_llama2(folder);
  const auto is_special = [&] {
    const auto tokenizer = Tokenizer::load(folder.path());
    return tokenizer.is_special(*tokenizer.token_id("new york"));
  };
  CHECK_FALSE(is_special());
  write(
      folder.path() / "tokenizer_config.json",
      R"({"additional_special_tokens": ["the", {"content": "<nowhere>"}], "pad_token": null})");
  const auto tokenizer = Tokenizer::load(folder.path());
  CHECK(tokenizer.is_special(*tokenizer.token_id("the")));
  CHECK_FALSE(tokenizer.token_id("<nowhere>").has_value());
}

TEST_CASE(
    "tokenizer_config.json names the end of a text where its token is a new one", "[data]") {
  const TemporaryFolder folder;
  auto text = Tokenizer::bytes().to_json();
  text.replace(text.find("<|endoftext|>"), 13, "<stop>");
  write(folder.path() / "tokenizer.json", text);
  CHECK_FALSE(Tokenizer::load(folder.path()).end_of_text().has_value());
  write(folder.path() / "tokenizer_config.json", R"({"eos_token": "<stop>"})");
  CHECK(Tokenizer::load(folder.path()).end_of_text() == 256);
}

TEST_CASE("read_tokenizer_config finds the chat template", "[data]") {
  const TemporaryFolder folder;
  CHECK(read_tokenizer_config(folder.path()).chat_template.empty());
  const auto file = folder.path() / "tokenizer_config.json";
  write(file, R"({"chat_template": "one"})");
  CHECK(read_tokenizer_config(folder.path()).chat_template == "one");
  write(file, R"({"chat_template": [{"name": "tools", "template": "x"},
                                    {"name": "default", "template": "two"}]})");
  CHECK(read_tokenizer_config(folder.path()).chat_template == "two");
  write(folder.path() / "chat_template.jinja", "three");
  CHECK(read_tokenizer_config(folder.path()).chat_template == "three");
  write(file, R"({"bos_token": 5})");
  CHECK_THROWS_WITH(
      read_tokenizer_config(folder.path()),
      ContainsSubstring("tokenizer_config.json: bos_token"));
}

TEST_CASE("A folder with a SentencePiece file only says what to do", "[data]") {
  const TemporaryFolder folder;
  write(folder.path() / "tokenizer.model", "x");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), ContainsSubstring("SentencePiece files"));
}
