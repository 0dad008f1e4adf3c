#include "moe/data/tokenizer/bpe_model.h"

#include <algorithm>
#include <random>

#include "moe/data/tokenizer/bpe_trainer.h"
#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

using Ids = std::vector<int32_t>;

/// Merges one pair after the other by looking at all of them: slow and obvious.
Ids merge_slowly(const BpeDefinition& model, Ids ids) {
  while (true) {
    const auto best = std::find_if(model.merges.begin(), model.merges.end(), [&](auto& merge) {
      const Ids pair = {merge.left, merge.right};
      return std::search(ids.begin(), ids.end(), pair.begin(), pair.end()) != ids.end();
    });
    if (best == model.merges.end()) {
      return ids;
    }
    const Ids pair = {best->left, best->right};
    const auto place = std::search(ids.begin(), ids.end(), pair.begin(), pair.end());
    *place = best->result;
    ids.erase(place + 1);
  }
}

BpeDefinition letters_model() {
  BpeDefinition model;
  model.vocabulary = {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"bc", 4}, {"abc", 5}};
  model.merges = {{1, 2, 4}, {0, 1, 3}, {0, 4, 5}};
  return model;
}

Ids encode(const BpeModel& model, std::string_view piece) {
  BpeModel::Scratch scratch;
  Ids ids;
  model.encode(piece, ids, scratch);
  return ids;
}

} // namespace

TEST_CASE("BpeModel: the earliest merge goes first", "[data]") {
  const BpeModel model(letters_model(), /*byte_level=*/true);
  CHECK(encode(model, "abc") == Ids{5}); // bc before ab
  CHECK(encode(model, "abab") == Ids{3, 3});
  CHECK(encode(model, "") == Ids{});
}

TEST_CASE("BpeModel: what has no token", "[data]") {
  auto definition = letters_model();
  SECTION("vanishes") {
    CHECK(encode(BpeModel(definition, true), "a??bc") == Ids{5});
  }
  SECTION("becomes the unknown token") {
    definition.unknown = 2;
    CHECK(encode(BpeModel(definition, true), "a??b") == Ids{0, 2, 2, 1});
    definition.fuse_unknown = true;
    CHECK(encode(BpeModel(definition, true), "?a??b") == Ids{2, 0, 2, 1});
  }
}

TEST_CASE("BpeModel: ignore_merges takes a whole piece as it is", "[data]") {
  auto definition = letters_model();
  definition.merges.pop_back(); // nothing leads to abc
  CHECK(encode(BpeModel(definition, true), "abc") == Ids{0, 4});
  definition.ignore_merges = true;
  CHECK(encode(BpeModel(definition, true), "abc") == Ids{5});
  CHECK(encode(BpeModel(definition, true), "abca") == Ids{0, 4, 0});
}

TEST_CASE("BpeModel: a merge twice is an error", "[data]") {
  auto definition = letters_model();
  definition.merges.push_back(definition.merges[0]);
  CHECK_THROWS_WITH(BpeModel(definition, true), ContainsSubstring("number 3 repeats number 0"));
}

// Short pieces are merged by scanning, long ones with a heap.
TEST_CASE("BpeModel: pieces of any length are merged like the slow way", "[data]") {
  const auto texts = test::golden_texts();
  BpeTrainer trainer(Pattern::none);
  for (const auto& text : texts) {
    trainer.add(text);
  }
  const auto definition = trainer.train(340);
  const BpeModel model(definition.model, /*byte_level=*/true);
  BpeModel::Scratch scratch;
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    std::string piece;
    while (piece.size() < static_cast<size_t>(i)) {
      piece += i % 3 == 0 ? std::string(random() % 5, ' ') : texts[random() % texts.size()];
    }
    Ids bytes;
    for (const char byte : piece) {
      model.encode(std::string_view(&byte, 1), bytes, scratch);
    }
    CAPTURE(i, piece);
    for (int repetition = 0; repetition < 2; ++repetition) { // from the cache, too
      Ids ids;
      model.encode(piece, ids, scratch);
      REQUIRE(ids == merge_slowly(definition.model, bytes));
    }
  }
}

// Where no merge joins a word with the space behind it, each word is merged by itself.
TEST_CASE("BpeModel: words are merged like the whole text in the slow way", "[data]") {
  BpeDefinition definition;
  definition.vocabulary = {
      {"<unk>", 0},
      {"▁", 1},
      {"a", 2},
      {"b", 3},
      {"▁▁", 4},
      {"▁a", 5},
      {"ab", 6},
      {"▁ab", 7},
      {"b▁a", 8}};
  definition.merges = {{1, 1, 4}, {1, 2, 5}, {2, 3, 6}, {5, 3, 7}, {1, 6, 7}};
  definition.unknown = 0;
  definition.fuse_unknown = GENERATE(false, true);
  if (GENERATE(false, true)) {
    definition.merges.push_back({3, 5, 8}); // crosses from one word to the next
  }
  const BpeModel model(definition, /*byte_level=*/false);
  BpeModel::Scratch scratch;
  const std::pair<const char*, int32_t> characters[] = {{"▁", 1}, {"a", 2}, {"b", 3}, {"?", 0}};
  std::mt19937 random(2);
  for (int i = 0; i < 400; ++i) {
    std::string text;
    Ids symbols;
    for (int length = i / 4; length > 0; --length) {
      const auto& [character, id] = characters[random() % 4];
      text += character;
      if (!(definition.fuse_unknown && id == 0 && !symbols.empty() && symbols.back() == 0)) {
        symbols.push_back(id);
      }
    }
    Ids ids;
    model.encode(text, ids, scratch);
    CAPTURE(i, text);
    REQUIRE(ids == merge_slowly(definition, symbols));
  }
}
