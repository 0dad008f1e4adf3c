#include <cstdlib>
#include <filesystem>

#include "moe/data/utf8.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"

using namespace moe;
using namespace moe::test;

namespace {

/// Golden texts, every character of the planes 0 to 3 and 14, and random valid UTF-8.
std::vector<std::string> parity_texts() {
  auto texts = golden_texts();
  std::string block;
  for (char32_t code_point = 0; code_point < 0xF0000; ++code_point) {
    if (code_point == 0xD800) {
      code_point = 0xE000;
    } else if (code_point == 0x40000) {
      code_point = 0xE0000; // nothing is assigned between
    }
    append_utf8(block, code_point);
    block += code_point % 3 == 0 ? "a1 " : "";
    if (code_point % 512 == 511) {
      texts.push_back(std::exchange(block, ""));
    }
  }
  std::mt19937 random(9);
  for (int i = 0; i < 3000; ++i) {
    texts.push_back(lossy_utf8(random_bytes(random, 120)));
  }
  return texts;
}

void write_encodings(
    const std::filesystem::path& folder,
    const std::string& name,
    const Tokenizer& tokenizer,
    const std::vector<std::string>& texts) {
  tokenizer.save(folder / (name + ".json"));
  std::ofstream file(folder / (name + ".tsv"));
  for (const auto& text : texts) {
    for (const char byte : text) {
      constexpr const char* kDigits = "0123456789abcdef";
      file << kDigits[static_cast<uint8_t>(byte) >> 4] << kDigits[byte & 15];
    }
    const char* separator = "\t";
    for (const int32_t id : tokenizer.encode(text)) {
      file << separator << id;
      separator = " ";
    }
    file << "\n";
  }
  check(file.good(), name, ".tsv: cannot be written");
}

} // namespace

// Hidden: compare_with_huggingface.py runs it and checks what it writes.
TEST_CASE("Tokenizer: write encodings for Hugging Face's library", "[.huggingface]") {
  const char* folder = std::getenv("MOE_PARITY_FOLDER");
  REQUIRE(folder != nullptr);
  const auto golden = golden_texts();
  const auto texts = parity_texts();
  write_encodings(folder, "bytes", Tokenizer::bytes(), texts);
  write_encodings(folder, "chars", Tokenizer::characters(views(golden)), texts);
  write_encodings(folder, "bpe", Tokenizer::train_bpe(views(texts), 2000), texts);
  for (const auto* name :
       {"gpt2",
        "llama3",
        "neox",
        "digits",
        "qwen35",
        "deepseek",
        "o200k",
        "llama2",
        "metaspace"}) {
    write_encodings(
        folder, name, Tokenizer::load(tokenizer_fixture(std::string(name) + ".json")), texts);
  }
}
