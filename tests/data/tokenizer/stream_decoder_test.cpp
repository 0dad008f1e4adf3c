#include "moe/data/tokenizer/stream_decoder.h"

#include "moe/data/utf8.h"
#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"

using namespace moe;

TEST_CASE("StreamDecoder: a character comes when its last byte is there", "[data]") {
  StreamDecoder decoder(Tokenizer::bytes());
  CHECK(decoder.push('a') == "a");
  CHECK(decoder.push(0xE4) == "");
  CHECK(decoder.push(0xB8) == "");
  CHECK(decoder.push(0x96) == "世");
  CHECK(decoder.push(0xE4) == "");
  CHECK(decoder.push('b') == "\uFFFDb");
  CHECK(decoder.push(0xED) == "");
  CHECK(decoder.push(0xA0) == ""); // a surrogate: Python, too, decides with the next byte
  CHECK(decoder.push('c') == "\uFFFD\uFFFDc");
  CHECK(decoder.push(0xF0) == "");
  CHECK(decoder.finish() == "\uFFFD");
  CHECK(decoder.finish() == "");
  CHECK(decoder.push('c') == "c");
}

TEST_CASE("StreamDecoder: parts are whole characters and joined the whole text", "[data]") {
  const auto tokenizer =
      GENERATE(Tokenizer::bytes(), Tokenizer::load(test::tokenizer_fixture("trained.json")));
  const bool skip_special = GENERATE(false, true);
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::vector<int32_t> ids;
    if (round % 2 == 0) {
      ids = tokenizer.encode(test::random_bytes(random, 60));
    } else {
      for (int i = 0; i < 20; ++i) {
        ids.push_back(static_cast<int32_t>(random() % tokenizer.vocab_size()));
      }
    }
    StreamDecoder decoder(tokenizer, skip_special);
    std::string joined;
    for (const int32_t id : ids) {
      const auto part = decoder.push(id);
      REQUIRE(is_valid_utf8(part));
      joined += part;
    }
    joined += decoder.finish();
    REQUIRE(joined == tokenizer.decode(ids, skip_special));
  }
}

TEST_CASE("StreamDecoder: characters that byte tokens spell come at once", "[data]") {
  const auto tokenizer = Tokenizer::load(test::tokenizer_fixture("llama2.json"));
  const auto byte = [](int value) { return 3 + value; };
  StreamDecoder decoder(tokenizer);
  CHECK(decoder.push(*tokenizer.token_id("▁")) == ""); // the space in front is not part of it
  CHECK(decoder.push(byte(0xE4)) == "");
  CHECK(decoder.push(byte(0xB8)) == "");
  CHECK(decoder.push(byte(0x96)) == "世");
  CHECK(decoder.push(byte(0xE4)) == "");
  CHECK(decoder.push(*tokenizer.token_id("a")) == "\uFFFDa");
  CHECK(decoder.push(*tokenizer.token_id("▁")) == " ");
  CHECK(decoder.push(byte(0xE4)) == "");
  CHECK(decoder.push(byte(0xB8)) == "");
  CHECK(decoder.finish() == "\uFFFD\uFFFD");
  StreamDecoder continuing(tokenizer, /*skip_special=*/false, /*continues=*/true);
  CHECK(continuing.push(*tokenizer.token_id("▁")) == " ");
  const std::vector<int32_t> invalid = {byte(0xC3), byte(0xA9), byte(0xFF)};
  CHECK(tokenizer.decode(invalid) == "\uFFFD\uFFFD\uFFFD");
  CHECK(tokenizer.decode_bytes(invalid) == "\xC3\xA9\xFF");
}

TEST_CASE("StreamDecoder: special tokens can be left out", "[data]") {
  const auto tokenizer = Tokenizer::bytes();
  CHECK(StreamDecoder(tokenizer).push(256) == "<|endoftext|>");
  StreamDecoder decoder(tokenizer, /*skip_special=*/true);
  CHECK(decoder.push(0xC3) == "");
  CHECK(decoder.push(256) == "");
  CHECK(decoder.push(0xA9) == "é");
  CHECK_THROWS_WITH(decoder.push(257), ContainsSubstring("257"));
}
