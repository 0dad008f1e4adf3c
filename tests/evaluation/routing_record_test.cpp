#include "moe/evaluation/routing_record.h"

#include <set>

#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

/// A file of documents with so many tokens, the end-of-text tokens included.
TokenFile documents_of(const std::filesystem::path& path, const std::vector<size_t>& sizes) {
  TokenFileWriter writer(path.string(), /*vocab_size=*/10, "test", /*end_of_text=*/9);
  for (const size_t size : sizes) {
    writer.add(std::vector<int32_t>(size - 1), static_cast<int64_t>(size - 1));
  }
  writer.finish();
  return TokenFile(path.string(), 10, "test");
}

} // namespace

TEST_CASE("choose_pieces: every document once before any twice", "[evaluation]") {
  const TemporaryFolder folder;
  const auto tokens = documents_of(folder.path() / "t", {5, 40, 12, 7, 23});
  const auto pieces = choose_pieces(tokens, /*domain=*/3, /*max_tokens=*/46, 10, /*seed=*/0);
  std::set<int64_t> documents;
  int64_t total = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const auto& piece = pieces[i];
    CAPTURE(i, piece.document, piece.begin, piece.end);
    CHECK(piece.domain == 3);
    CHECK(piece.begin >= tokens.document_begin(piece.document));
    CHECK(piece.end <= tokens.document_begin(piece.document + 1));
    CHECK(piece.end - piece.begin <= 10);
    CHECK(documents.insert(piece.document).second == (i < 5));
    total += piece.end - piece.begin;
  }
  CHECK(documents.size() == 5);
  CHECK(total == 46);
}

TEST_CASE("choose_pieces: all of a text, each token once", "[evaluation]") {
  const TemporaryFolder folder;
  const auto tokens = documents_of(folder.path() / "t", {5, 40, 12, 7, 23});
  std::multiset<int64_t> places;
  for (const auto& piece : choose_pieces(tokens, 0, 1000, 10, 7)) {
    for (int64_t i = piece.begin; i < piece.end; ++i) {
      places.insert(i);
    }
  }
  CHECK(places.size() == 87);
  CHECK(std::set<int64_t>(places.begin(), places.end()).size() == 87);
}

TEST_CASE("choose_pieces: a function of the seed", "[evaluation]") {
  const TemporaryFolder folder;
  const auto tokens = documents_of(folder.path() / "t", {50, 40, 60, 70, 23});
  const auto begins = [&](int64_t seed) {
    std::vector<int64_t> result;
    for (const auto& piece : choose_pieces(tokens, 0, 60, 10, seed)) {
      result.push_back(piece.begin);
    }
    return result;
  };
  CHECK(begins(1) == begins(1));
  CHECK(begins(1) != begins(2));
}

TEST_CASE("Choices are counted by expert and domain; none is no choice", "[evaluation]") {
  RoutingRecord record;
  record.domains = {"a", "b"};
  record.ids = {1, 2, 3};
  record.pieces = {{0, 0, 0, 2}, {1, 0, 2, 3}};
  record.layers = {{0, 3, 2, {0, 2, 2, -1, 1, 2}, {1, 1, 1, 0, 1, 1}}};
  CHECK(choices_by_expert(record.layers[0]) == std::vector<int64_t>{1, 1, 3});
  CHECK(
      choices_by_domain(record, record.layers[0]) ==
      std::vector<std::vector<int64_t>>{{1, 0, 2}, {0, 1, 1}});
}
