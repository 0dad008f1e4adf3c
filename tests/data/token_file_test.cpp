#include "moe/data/token_file.h"

#include <cstring>
#include <filesystem>
#include <functional>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

constexpr std::string_view kTokenizer = "{\"tokenizer\": 1}";

std::string write_example(
    const TemporaryFolder& folder, int64_t vocab_size, const std::string& name = "a.tokens") {
  const auto path = (folder.path() / name).string();
  TokenFileWriter writer(path, vocab_size, kTokenizer, vocab_size - 1);
  writer.add(std::vector<int32_t>{1, 2, 3}, 10);
  writer.add(std::vector<int64_t>{}, 0);
  writer.add(std::vector<int64_t>{vocab_size - 2}, 4);
  writer.finish();
  return path;
}

std::vector<int64_t> read(const TokenFile& file, int64_t begin, int64_t count) {
  std::vector<int64_t> ids(static_cast<size_t>(count));
  file.read(begin, ids);
  return ids;
}

template <class Value>
void put(std::string& bytes, size_t offset, Value value) {
  std::memcpy(bytes.data() + offset, &value, sizeof(value));
}

} // namespace

TEST_CASE("A token file gives back ids, documents and sizes", "[data]") {
  const auto vocab_size = GENERATE(257, 65536, 65537, 200000);
  TemporaryFolder folder;
  const auto path = write_example(folder, vocab_size);
  const TokenFile file(path, vocab_size, kTokenizer);
  CHECK(file.path() == path);
  CHECK(file.vocab_size() == vocab_size);
  CHECK(file.num_tokens() == 7);
  CHECK(file.num_documents() == 3);
  CHECK(file.text_bytes() == 14);
  const int64_t end = vocab_size - 1;
  CHECK(read(file, 0, 7) == std::vector<int64_t>{1, 2, 3, end, end, vocab_size - 2, end});
  CHECK(read(file, 2, 2) == std::vector<int64_t>{3, end});
  CHECK(read(file, 7, 0).empty());
  const std::vector<int64_t> begins = {0, 4, 5, 7}, bytes = {0, 10, 10, 14};
  for (int64_t i = 0; i <= 3; ++i) {
    CHECK(file.document_begin(i) == begins[static_cast<size_t>(i)]);
    CHECK(file.text_bytes_before(i) == bytes[static_cast<size_t>(i)]);
  }
  const std::vector<int64_t> documents = {0, 0, 0, 0, 1, 2, 2};
  for (int64_t token = 0; token < 7; ++token) {
    CHECK(file.document_of(token) == documents[static_cast<size_t>(token)]);
  }
  CHECK(folder.read("a.tokens").size() % 8 == 0);
}

TEST_CASE("Token files refuse places beyond their ends", "[data]") {
  TemporaryFolder folder;
  const TokenFile file(write_example(folder, 257), 257, kTokenizer);
  CHECK_THROWS_AS(read(file, 6, 2), Error);
  CHECK_THROWS_AS(read(file, -1, 2), Error);
  CHECK_THROWS_AS(read(file, 8, 0), Error);
  CHECK_THROWS_AS(file.document_begin(4), Error);
  CHECK_THROWS_AS(file.document_begin(-1), Error);
  CHECK_THROWS_AS(file.document_of(7), Error);
  CHECK_THROWS_AS(file.document_of(-1), Error);
  CHECK_THROWS_AS(file.text_bytes_before(4), Error);
}

TEST_CASE("A larger token file than the writer's buffer comes back", "[data]") {
  TemporaryFolder folder;
  const auto path = (folder.path() / "large.tokens").string();
  TokenFileWriter writer(path, 1000, kTokenizer, 999);
  std::vector<int64_t> ids(1000003);
  for (size_t i = 0; i < ids.size(); ++i) {
    ids[i] = static_cast<int64_t>(i * i % 999);
  }
  writer.add(ids, 5);
  writer.finish();
  ids.push_back(999);
  CHECK(read(TokenFile(path, 1000, kTokenizer), 0, 1000004) == ids);
}

TEST_CASE("An unfinished token file leaves nothing behind", "[data]") {
  TemporaryFolder folder;
  {
    TokenFileWriter writer((folder.path() / "a.tokens").string(), 257, kTokenizer, 256);
    writer.add(std::vector<int64_t>(2000000, 1), 10);
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("TokenFileWriter refuses what cannot be read back", "[data]") {
  TemporaryFolder folder;
  const auto path = (folder.path() / "a.tokens").string();
  CHECK_THROWS_WITH(TokenFileWriter(path, 0, kTokenizer, 0), ContainsSubstring("vocabulary"));
  CHECK_THROWS_WITH(
      TokenFileWriter(path, int64_t{1} << 40, kTokenizer, 0), ContainsSubstring("vocabulary"));
  CHECK_THROWS_WITH(
      TokenFileWriter(path, 10, kTokenizer, 10), ContainsSubstring("end-of-text id 10"));
  TokenFileWriter writer(path, 10, kTokenizer, 9);
  CHECK_THROWS_WITH(writer.finish(), ContainsSubstring("at least one document"));
  CHECK_THROWS_WITH(
      writer.add(std::vector<int64_t>{10}, 1), ContainsSubstring("id 10 is not in [0, 10)"));
  CHECK_THROWS_AS(writer.add(std::vector<int32_t>{-1}, 1), Error);
}

TEST_CASE("A token file in a missing folder is an error that names it", "[data]") {
  TemporaryFolder folder;
  const auto path = (folder.path() / "missing" / "a.tokens").string();
  CHECK_THROWS_WITH(TokenFileWriter(path, 10, kTokenizer, 9), ContainsSubstring(path));
  CHECK_THROWS_WITH(TokenFile(path, 10, kTokenizer), ContainsSubstring(path));
}

TEST_CASE("Another vocabulary or tokenizer is refused", "[data]") {
  TemporaryFolder folder;
  const auto path = write_example(folder, 257);
  CHECK_THROWS_WITH(
      TokenFile(path, 300, kTokenizer),
      ContainsSubstring("vocabulary of 257") && ContainsSubstring("has 300"));
  CHECK_THROWS_WITH(
      TokenFile(path, 257, "other"), ContainsSubstring("made with another tokenizer"));
}

TEST_CASE("Every truncation of a token file is refused", "[data]") {
  TemporaryFolder folder;
  write_example(folder, 257);
  const auto bytes = folder.read("a.tokens");
  for (size_t size = 0; size < bytes.size(); ++size) {
    const auto path = folder.write("cut.tokens", bytes.substr(0, size));
    CAPTURE(size);
    CHECK_THROWS_WITH(TokenFile(path, 257, kTokenizer), ContainsSubstring(path + ":"));
  }
  CHECK_THROWS_AS(
      TokenFile(folder.write("long.tokens", bytes + "12345678"), 257, kTokenizer), Error);
}

TEST_CASE("Damaged token files are refused", "[data]") {
  TemporaryFolder folder;
  write_example(folder, 257);
  const auto bytes = folder.read("a.tokens");
  const size_t footer = bytes.size() - 32, begins = footer - 48, text_ends = footer - 24;
  using Damage = std::function<void(std::string&)>;
  const std::vector<std::pair<std::string, Damage>> damages = {
      {"not a token file", [](auto& b) { b[0] = 'X'; }},
      {"version 2", [](auto& b) { put<uint32_t>(b, 8, 2); }},
      {"bytes per id", [](auto& b) { put<uint32_t>(b, 12, 0); }},
      {"bytes per id", [](auto& b) { put<uint32_t>(b, 12, 4); }},
      {"vocabulary", [](auto& b) { put<uint64_t>(b, 16, uint64_t{1} << 63); }},
      {"another tokenizer", [](auto& b) { b[30] ^= 1; }},
      {"the end is missing", [](auto& b) { b.back() = 'X'; }},
      {"cannot lie in", [&](auto& b) { put<uint64_t>(b, footer, ~uint64_t{0}); }},
      {"cannot lie in", [&](auto& b) { put<uint64_t>(b, footer, uint64_t{1} << 63); }},
      {"cannot lie in", [&](auto& b) { put<uint64_t>(b, footer, 0); }},
      {"cannot lie in", [&](auto& b) { put<uint64_t>(b, footer + 8, 0); }},
      {"cannot lie in", [&](auto& b) { put<uint64_t>(b, footer + 8, uint64_t{1} << 60); }},
      {"expected", [&](auto& b) { put<uint64_t>(b, footer + 8, 2); }},
      {"expected", [&](auto& b) { put<uint64_t>(b, footer, 20); }},
      {"document 0 begins", [&](auto& b) { put<uint64_t>(b, begins, 1); }},
      {"document 1 begins", [&](auto& b) { put<uint64_t>(b, begins + 8, 0); }},
      {"document 2 begins", [&](auto& b) { put<uint64_t>(b, begins + 16, 7); }},
      {"document 2 begins", [&](auto& b) { put<uint64_t>(b, begins + 16, ~uint64_t{0}); }},
      {"document 1 begins", [&](auto& b) { put<uint64_t>(b, text_ends + 8, 9); }},
      {"bytes of text", [&](auto& b) { put<uint64_t>(b, text_ends + 16, 15); }},
      {"bytes of text", [&](auto& b) { put<uint64_t>(b, footer + 16, 15); }},
      {"bytes of text", [&](auto& b) {
         put<uint64_t>(b, footer + 16, ~uint64_t{0});
         put<uint64_t>(b, text_ends + 16, ~uint64_t{0});
       }}};
  for (const auto& [part, damage] : damages) {
    auto damaged = bytes;
    damage(damaged);
    const auto path = folder.write("damaged.tokens", damaged);
    CAPTURE(part);
    CHECK_THROWS_WITH(
        TokenFile(path, 257, kTokenizer),
        ContainsSubstring(path + ":") && ContainsSubstring(part));
  }
}

TEST_CASE("An id outside of the vocabulary is found when it is read", "[data]") {
  TemporaryFolder folder;
  write_example(folder, 257);
  auto bytes = folder.read("a.tokens");
  put<uint16_t>(bytes, 56 + 2 * 5, 257);
  const TokenFile file(folder.write("a.tokens", bytes), 257, kTokenizer);
  CHECK_NOTHROW(read(file, 0, 5));
  CHECK_THROWS_WITH(
      read(file, 4, 3), ContainsSubstring("token 5 is 257, the vocabulary has 257 ids"));
}
