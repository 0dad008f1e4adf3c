#include "moe/conversion/gguf_file.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "moe/conversion/gguf_tokenizer.h"
#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

template <class Number>
Number number_at(const std::string& bytes, size_t offset) {
  Number value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

std::string text_of_bytes(const std::vector<std::byte>& bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

} // namespace

TEST_CASE("encode_gguf: bfloat16 rounds to nearest even", "[conversion]") {
  const std::vector<float> values = {1.0f, -2.5f, 1.00390625f, 1.01171875f, INFINITY};
  const auto bytes = text_of_bytes(encode_gguf(values, GgufType::bf16));
  REQUIRE(bytes.size() == 10);
  CHECK(number_at<uint16_t>(bytes, 0) == 0x3F80);
  CHECK(number_at<uint16_t>(bytes, 2) == 0xC020);
  CHECK(number_at<uint16_t>(bytes, 4) == 0x3F80); // half way between: to the even one
  CHECK(number_at<uint16_t>(bytes, 6) == 0x3F82);
  CHECK(number_at<uint16_t>(bytes, 8) == 0x7F80);
}

TEST_CASE("encode_gguf: q8_0 is a scale and 32 bytes per block", "[conversion]") {
  std::vector<float> values(64, 0.0f);
  for (int i = 0; i < 32; ++i) {
    values[i] = static_cast<float>(i - 16) / 16.0f * 2.54f;
  }
  const auto bytes = text_of_bytes(encode_gguf(values, GgufType::q8_0));
  REQUIRE(bytes.size() == 2 * 34);
  CHECK(number_at<uint16_t>(bytes, 0) == 0x251F); // 0.02 as float16
  CHECK(number_at<int8_t>(bytes, 2) == -127);
  CHECK(number_at<int8_t>(bytes, 2 + 16) == 0);
  CHECK(number_at<int8_t>(bytes, 2 + 20) == 32); // 31.75
  CHECK(number_at<uint16_t>(bytes, 34) == 0);    // a block of zeros
  CHECK_THROWS_WITH(
      encode_gguf(std::vector<float>(33), GgufType::q8_0), ContainsSubstring("blocks of 32"));
}

TEST_CASE("write_gguf: the layout that the format describes", "[conversion]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model.gguf";
  write_gguf(
      path,
      {{"a", uint32_t{7}},
       {"b", std::string("x")},
       {"c", std::vector<std::string>{"p", "qr"}},
       {"d", std::vector<bool>{true, false}}},
      {{"t",
        {2, 3},
        GgufType::f32,
        [](const GgufSink& give) {
          give(std::vector<float>{1, 2, 3});
          give(std::vector<float>{4, 5, 6});
        }},
       {"u", {1}, GgufType::f32, [](const GgufSink& give) { give(std::vector<float>{9}); }}});
  std::ifstream file(path, std::ios::binary);
  const std::string bytes(std::istreambuf_iterator<char>(file), {});
  CHECK(bytes.substr(0, 4) == "GGUF");
  CHECK(number_at<uint32_t>(bytes, 4) == 3);
  CHECK(number_at<uint64_t>(bytes, 8) == 2);  // tensors
  CHECK(number_at<uint64_t>(bytes, 16) == 4); // values
  CHECK(number_at<uint64_t>(bytes, 24) == 1); // length of "a"
  CHECK(number_at<uint32_t>(bytes, 33) == 4); // its type
  CHECK(number_at<uint32_t>(bytes, 37) == 7);
  const size_t flags = bytes.find('d', 41);
  CHECK(number_at<uint32_t>(bytes, flags + 1) == 9); // an array
  CHECK(number_at<uint32_t>(bytes, flags + 5) == 7); // of truth values
  CHECK(number_at<uint64_t>(bytes, flags + 9) == 2);
  CHECK(number_at<uint16_t>(bytes, flags + 17) == 1); // one and none, a byte each
  const size_t tensor = bytes.find('t', flags);
  CHECK(number_at<uint32_t>(bytes, tensor + 1) == 2); // dimensions, the contiguous one first
  CHECK(number_at<uint64_t>(bytes, tensor + 5) == 3);
  CHECK(number_at<uint64_t>(bytes, tensor + 13) == 2);
  REQUIRE(bytes.size() % 32 == 0);
  const size_t data = bytes.size() - 64;
  CHECK(number_at<float>(bytes, data + 4) == 2.0f);
  CHECK(number_at<float>(bytes, data + 20) == 6.0f);
  CHECK(number_at<float>(bytes, data + 32) == 9.0f);
  CHECK_THROWS_WITH(
      write_gguf(
          path,
          {},
          {{"t",
            {2},
            GgufType::f32,
            [](const GgufSink& give) { give(std::vector<float>{1}); }}}),
      ContainsSubstring("t has 1 elements, its shape has 2"));
  CHECK_THROWS_WITH(gguf_type("q4"), ContainsSubstring("q4 is not one of"));
}

TEST_CASE("gguf_tokenizer: tokens, kinds and merges", "[conversion]") {
  const auto tokenizer = Tokenizer::load(test::tokenizer_fixture("trained.json"));
  const auto metadata = gguf_tokenizer(tokenizer, tokenizer.vocab_size() + 2);
  const auto value = [&](const std::string& key) {
    for (const auto& [name, found] : metadata) {
      if (name == "tokenizer.ggml." + key) {
        return found;
      }
    }
    FAIL("no " << key);
    return GgufValue();
  };
  const auto tokens = std::get<std::vector<std::string>>(value("tokens"));
  const auto types = std::get<std::vector<int32_t>>(value("token_type"));
  REQUIRE(static_cast<int64_t>(tokens.size()) == tokenizer.vocab_size() + 2);
  const auto end = static_cast<size_t>(*tokenizer.end_of_text());
  CHECK(tokens[end] == "<|endoftext|>");
  CHECK(types[end] == 3);
  CHECK(types[end + 1] == 5);
  CHECK(types[0] == 1);
  CHECK(std::get<std::string>(value("pre")) == "qwen2");
  CHECK(std::get<uint32_t>(value("eos_token_id")) == end);
  const auto merges = std::get<std::vector<std::string>>(value("merges"));
  CHECK(merges.size() + 257 == static_cast<size_t>(tokenizer.vocab_size()));
  CHECK(std::get<std::string>(gguf_tokenizer(Tokenizer::bytes(), 257)[1].second) == "gpt-2");
  CHECK_THROWS_WITH(
      gguf_tokenizer(Tokenizer::load(test::tokenizer_fixture("digits.json")), 2000),
      ContainsSubstring("not supported"));
  CHECK_THROWS_WITH(gguf_tokenizer(tokenizer, 10), ContainsSubstring("the model 10"));
}

namespace {

const std::string kPrepended =
    R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]})";

/// A tokenizer as Llama 2 has it, of a few tokens.
std::string pieces_json(
    const std::string& merges,
    const std::string& normalizer = kPrepended,
    const std::string& pre_tokenizer = "null") {
  std::string vocabulary = R"("<unk>": 0, "<s>": 1, "</s>": 2)";
  for (int byte = 0; byte < 256; ++byte) {
    std::array<char, 16> token{};
    std::snprintf(token.data(), token.size(), "<0x%02X>", byte);
    vocabulary += ", \"" + std::string(token.data()) + "\": " + std::to_string(byte + 3);
  }
  int id = 259;
  for (const char* token : {"▁", "a", "b", "▁a", "ab", "▁ab"}) {
    vocabulary += ", \"" + std::string(token) + "\": " + std::to_string(id++);
  }
  return R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": [
      {"id": 2, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false,
       "normalized": false, "special": true}],
    "normalizer": )" +
         normalizer + R"(, "pre_tokenizer": )" + pre_tokenizer +
         R"(, "post_processor": null, "decoder": {"type": "Fuse"}, "model": {"type": "BPE",
    "dropout": null, "unk_token": "<unk>", "continuing_subword_prefix": null,
    "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
    "vocab": {)" +
         vocabulary + R"(}, "merges": [)" + merges + "]}}";
}

GgufMetadata pieces_metadata_of(const std::string& json) {
  return gguf_tokenizer(Tokenizer::from_json(json, "pieces"), 266);
}

} // namespace

TEST_CASE("gguf_tokenizer: pieces with byte fallback", "[conversion]") {
  const std::string merges = R"("▁ a", "a b", "▁a b", "▁ ab")";
  const auto metadata = pieces_metadata_of(pieces_json(merges));
  const auto value = [&](const std::string& key) {
    const auto found = std::find_if(metadata.begin(), metadata.end(), [&](const auto& entry) {
      return entry.first == "tokenizer.ggml." + key;
    });
    REQUIRE(found != metadata.end());
    return found->second;
  };
  CHECK(value("model") == GgufValue(std::string("llama")));
  CHECK(value("add_space_prefix") == GgufValue(true));
  CHECK(value("unknown_token_id") == GgufValue(uint32_t{0}));
  auto scores = std::get<std::vector<float>>(value("scores"));
  CHECK(
      std::vector(scores.begin() + 259, scores.end()) ==
      std::vector<float>{0, 0, 0, -1, -2, -3, 0});
  const auto types = std::get<std::vector<int32_t>>(value("token_type"));
  CHECK(types[0] == 2);
  CHECK(types[2] == 3);
  CHECK(types[3] == 6);
  CHECK(types[264] == 1);
  CHECK(types[265] == 5);
}

TEST_CASE("gguf_tokenizer: pieces that llama.cpp would cut otherwise", "[conversion]") {
  const std::string merges = R"("▁ a", "a b", "▁a b", "▁ ab")";
  const std::string metaspace = R"({"type": "Metaspace", "replacement": "▁", "split": false,
      "prepend_scheme": )";
  const auto notice = [&](const std::string& scheme) {
    const auto json = pieces_json(merges, "null", metaspace + scheme + "}");
    return gguf_tokenizer_notice(Tokenizer::from_json(json, "pieces"));
  };
  CHECK_THAT(notice(R"("first")"), ContainsSubstring("behind control tokens"));
  CHECK_THAT(notice(R"("always")"), ContainsSubstring("begins with one"));
  CHECK(notice(R"("never")").empty());
  CHECK(gguf_tokenizer_notice(Tokenizer::from_json(pieces_json(merges), "pieces")).empty());
  CHECK_THROWS_WITH(
      pieces_metadata_of(pieces_json(R"("▁ a", "a b", "▁a b")")),
      ContainsSubstring("'▁' and 'ab' are no merge"));
  CHECK_THROWS_WITH(
      pieces_metadata_of(pieces_json(R"("▁ a", "▁a b", "a b", "▁ ab")")),
      ContainsSubstring("'▁ab' and 'ab' take turns"));
  CHECK_THROWS_WITH(
      pieces_metadata_of(pieces_json(merges, R"({"type": "NFKC"})")),
      ContainsSubstring("not supported"));
  auto bytes = pieces_json(merges);
  bytes.replace(bytes.find("<0x41>"), 6, "<0x4A");
  CHECK_THROWS_WITH(pieces_metadata_of(bytes), ContainsSubstring("for every byte"));
}

TEST_CASE("gguf_tokenizer: llama.cpp's names of patterns", "[conversion]") {
  const auto pattern = [](const std::string& fixture) {
    const auto tokenizer = Tokenizer::load(test::tokenizer_fixture(fixture));
    for (const auto& [key, value] : gguf_tokenizer(tokenizer, tokenizer.vocab_size())) {
      if (key == "tokenizer.ggml.pre") {
        return std::get<std::string>(value);
      }
    }
    return std::string();
  };
  CHECK(pattern("gpt2.json") == "gpt-2");
  CHECK(pattern("llama3.json") == "llama-bpe");
  CHECK(pattern("o200k.json") == "gpt-4o");
  CHECK(pattern("deepseek.json") == "deepseek-v3");
  CHECK_THROWS_WITH(pattern("qwen35.json"), ContainsSubstring("not supported"));
}

TEST_CASE("gguf_tokenizer: the folder's end of text and chat template", "[conversion]") {
  const auto bytes = Tokenizer::bytes();
  auto text = bytes.to_json();
  const std::string none = R"("normalizer": null)";
  text.replace(text.find(none), none.size(), R"("normalizer": {"type": "NFC"})");
  const auto tokenizer = Tokenizer::from_json(text, "nfc");
  CHECK_THAT(gguf_tokenizer_notice(tokenizer), ContainsSubstring("NFC"));
  CHECK(gguf_tokenizer_notice(bytes).empty());
  const auto has = [](const auto& metadata, const std::string& key, const GgufValue& value) {
    return std::find(metadata.begin(), metadata.end(), std::pair(key, value)) != metadata.end();
  };
  const auto plain = gguf_tokenizer(tokenizer, 257);
  CHECK(has(plain, "tokenizer.ggml.eos_token_id", uint32_t{256}));
  const auto chat = gguf_tokenizer(tokenizer, 257, {65, "{{ messages }}"});
  CHECK(has(chat, "tokenizer.ggml.eos_token_id", uint32_t{65}));
  CHECK(has(chat, "tokenizer.chat_template", std::string("{{ messages }}")));
  CHECK(chat.size() == plain.size() + 1);
}
