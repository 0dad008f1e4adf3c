#include "moe/data/tokenizer/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <thread>

#include "moe/data/utf8.h"
#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
using namespace moe::test;

namespace {

using Ids = std::vector<int32_t>;

Tokenizer trained() {
  static const auto tokenizer = Tokenizer::load(tokenizer_fixture("trained.json"));
  return tokenizer;
}

} // namespace

TEST_CASE("Tokenizer: any bytes come back", "[data]") {
  const auto name = GENERATE(as<std::string>(), "bytes", "trained", "gpt2", "llama3");
  CAPTURE(name);
  const auto tokenizer =
      name == "bytes" ? Tokenizer::bytes() : Tokenizer::load(tokenizer_fixture(name + ".json"));
  std::mt19937 random(11);
  for (int i = 0; i < 10000; ++i) {
    const auto text = random_bytes(random, 80);
    CAPTURE(text);
    REQUIRE(tokenizer.decode_bytes(tokenizer.encode(text)) == text);
    const auto ids = tokenizer.encode_ordinary(text);
    REQUIRE(tokenizer.decode_bytes(ids) == text);
    REQUIRE(tokenizer.decode(ids) == lossy_utf8(text));
    REQUIRE(std::count(ids.begin(), ids.end(), tokenizer.end_of_text().value()) == 0);
  }
}

TEST_CASE("Tokenizer: every character comes back", "[data]") {
  const auto tokenizer = trained();
  int wrong = 0;
  for (char32_t code_point = 0; code_point < 0x110000; ++code_point) {
    if (code_point == 0xD800) {
      code_point = 0xE000;
    }
    std::string text = "x ";
    append_utf8(text, code_point);
    wrong += tokenizer.decode(tokenizer.encode(text)) != text;
  }
  CHECK(wrong == 0);
}

TEST_CASE("Tokenizer: text may be cut where lines end", "[data]") {
  const auto tokenizer = trained();
  std::string text;
  Ids joined;
  for (const auto& part : golden_texts()) {
    const auto line = "x" + part + "x\n";
    text += line;
    const auto ids = tokenizer.encode(line);
    joined.insert(joined.end(), ids.begin(), ids.end());
  }
  CHECK(tokenizer.encode(text) == joined);
}

TEST_CASE("Tokenizer::bytes: ids are bytes", "[data]") {
  const auto tokenizer = Tokenizer::bytes();
  CHECK(tokenizer.vocab_size() == 257);
  CHECK(tokenizer.end_of_text() == 256);
  CHECK(tokenizer.encode("a é") == Ids{0x61, 0x20, 0xC3, 0xA9});
  CHECK(tokenizer.token_bytes(0x80) == "\x80");
}

TEST_CASE("Tokenizer::characters: one id per character", "[data]") {
  const auto tokenizer = Tokenizer::characters({"hello", "wörld 世"});
  CHECK(tokenizer.vocab_size() == 12); // " dehlorwö世", U+FFFD, end of text
  CHECK(tokenizer.encode(" de") == Ids{0, 1, 2});
  CHECK(tokenizer.decode(tokenizer.encode("wörld 世")) == "wörld 世");
  CHECK(tokenizer.end_of_text() == 11);
  // What was not in the texts, and what is no UTF-8, is U+FFFD.
  const Ids unknown = {10, 10, 1};
  CHECK(
      tokenizer.encode("x\xFF"
                       "d") == unknown);
  CHECK(tokenizer.decode(unknown) == "\uFFFD\uFFFDd");
  CHECK(tokenizer.encode("\uFFFD") == Ids{10});
}

TEST_CASE("Tokenizer: special tokens in text", "[data]") {
  const auto tokenizer = trained();
  const int32_t end = tokenizer.end_of_text().value();
  CHECK(end == tokenizer.vocab_size() - 1);
  CHECK(tokenizer.is_special(end));
  CHECK_FALSE(tokenizer.is_special(0));
  CHECK(tokenizer.token_id("<|endoftext|>") == end);
  CHECK(tokenizer.token_id("Ġ").has_value());
  CHECK(tokenizer.token_id("no such token") == std::nullopt);

  const std::string text = "a<|endoftext|><|endoftext|> b<|endoftext";
  const auto ids = tokenizer.encode(text);
  CHECK(std::count(ids.begin(), ids.end(), end) == 2);
  CHECK(tokenizer.decode(ids) == text);
  CHECK(tokenizer.decode(ids, /*skip_special=*/true) == "a b<|endoftext");
  const auto ordinary = tokenizer.encode_ordinary(text);
  CHECK(std::count(ordinary.begin(), ordinary.end(), end) == 0);
  CHECK(tokenizer.decode(ordinary) == text);
}

TEST_CASE("Tokenizer: a saved tokenizer is the same tokenizer", "[data]") {
  const TemporaryFolder folder;
  const auto texts = golden_texts();
  const auto tokenizer = GENERATE_COPY(
      Tokenizer::bytes(),
      Tokenizer::characters(views(texts)),
      Tokenizer::train_bpe(views(texts), 400),
      Tokenizer::load(tokenizer_fixture("gpt2.json")),
      Tokenizer::load(tokenizer_fixture("llama3.json")));
  tokenizer.save(folder.path() / "tokenizer.json");
  for (const auto& path : {folder.path(), folder.path() / "tokenizer.json"}) {
    const auto loaded = Tokenizer::load(path);
    CHECK(loaded.to_json() == tokenizer.to_json());
    CHECK(loaded.vocab_size() == tokenizer.vocab_size());
    CHECK(loaded.end_of_text() == tokenizer.end_of_text());
    for (const auto& text : texts) {
      REQUIRE(loaded.encode(text) == tokenizer.encode(text));
    }
  }
}

TEST_CASE("Tokenizer::train_bpe: size of the vocabulary", "[data]") {
  const auto texts = golden_texts();
  CHECK(Tokenizer::train_bpe(views(texts), 257).vocab_size() == 257);
  CHECK(Tokenizer::train_bpe(views(texts), 300).vocab_size() == 300);
  CHECK(Tokenizer::train_bpe({"no pair twice"}, 300).vocab_size() == 257);
  CHECK_THROWS_WITH(
      Tokenizer::train_bpe({}, 256), ContainsSubstring("256") && ContainsSubstring("257"));
}

TEST_CASE("Tokenizer: several threads may share one", "[data]") {
  const auto tokenizer = trained();
  const auto texts = golden_texts();
  std::vector<int> wrong(3);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (const auto& text : texts) {
        count += tokenizer.decode(tokenizer.encode(text)) != text;
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  CHECK(wrong == std::vector<int>(3));
}

TEST_CASE("Tokenizer: ids without a token are errors", "[data]") {
  const auto tokenizer = Tokenizer::bytes();
  for (const int32_t id : {-1, 257, INT32_MAX, INT32_MIN}) {
    CAPTURE(id);
    CHECK_THROWS_WITH(tokenizer.decode(Ids{id}), ContainsSubstring(std::to_string(id)));
    CHECK_THROWS_AS(tokenizer.token_bytes(id), Error);
    CHECK_THROWS_AS(tokenizer.is_special(id), Error);
  }
}

TEST_CASE("make_tokenizer: what a user writes", "[data]") {
  int reads = 0;
  const DocumentSource documents = [&](const auto& visit) {
    ++reads;
    visit("abc abc");
    visit("abd");
  };
  CHECK(make_tokenizer("bytes", documents).vocab_size() == 257);
  CHECK(make_tokenizer(tokenizer_fixture("gpt2.json"), documents).vocab_size() == 520);
  CHECK(reads == 0);
  CHECK(make_tokenizer("chars", documents).vocab_size() == 7); // " abcd", U+FFFD, end of text
  CHECK(make_tokenizer("bpe:259", documents).token_bytes(256) == "ab");
  CHECK(reads == 2);
  for (const auto* spec : {"bpe:", "bpe:256", "bpe:8k", "bpe:-1", "bpe:99999999999999999999"}) {
    CAPTURE(spec);
    CHECK_THROWS_WITH(make_tokenizer(spec, documents), ContainsSubstring("bpe:8192"));
  }
  CHECK_THROWS_WITH(
      make_tokenizer("words", documents),
      ContainsSubstring("words") && ContainsSubstring("bpe:SIZE"));
  CHECK_THROWS_WITH(make_tokenizer("/", documents), ContainsSubstring("tokenizer.json"));
}

TEST_CASE("Tokenizer::save: a place that cannot be written", "[data]") {
  CHECK_THROWS_WITH(
      Tokenizer::bytes().save("/no/such/folder/tokenizer.json"),
      ContainsSubstring("/no/such/folder"));
}
