#include "moe/data/tokenizer/bpe_trainer.h"

#include <map>

#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

using Ids = std::vector<int32_t>;
using Pair = std::pair<int32_t, int32_t>;

std::vector<std::string> learned(const BpeTrainer& trainer, int64_t max_tokens) {
  const auto vocabulary = trainer.train(max_tokens).model.vocabulary;
  std::vector<std::string> tokens;
  for (size_t i = 256; i < vocabulary.size(); ++i) {
    tokens.push_back(vocabulary[i].token);
  }
  return tokens;
}

/// Counts all pairs anew for every merge: slow and obvious.
std::vector<Pair> train_slowly(std::vector<Ids> pieces, int32_t max_tokens) {
  std::vector<Pair> merges;
  for (int32_t id = 256; id < max_tokens; ++id) {
    std::map<Pair, int> counts;
    for (const auto& piece : pieces) {
      for (size_t i = 0; i + 1 < piece.size(); ++i) {
        ++counts[{piece[i], piece[i + 1]}];
      }
    }
    Pair best;
    int best_count = 1;
    for (const auto& [pair, count] : counts) { // by ascending ids
      if (count > best_count) {
        best = pair;
        best_count = count;
      }
    }
    if (best_count < 2) {
      break;
    }
    merges.push_back(best);
    for (auto& piece : pieces) {
      for (size_t i = 0; i + 1 < piece.size(); ++i) {
        if (Pair(piece[i], piece[i + 1]) == best) {
          piece[i] = id;
          piece.erase(piece.begin() + i + 1);
        }
      }
    }
  }
  return merges;
}

} // namespace

TEST_CASE("BpeTrainer: the most frequent pair becomes a token", "[data]") {
  BpeTrainer trainer(Pattern::qwen2);
  trainer.add("low low low lower lowest");
  // "lo" and "ow" occur five times each; the lower id goes first.
  CHECK(learned(trainer, 258) == std::vector<std::string>{"lo", "low"});
}

TEST_CASE("BpeTrainer: pairs that occur once are left alone", "[data]") {
  BpeTrainer trainer(Pattern::qwen2);
  trainer.add("abcdefg");
  CHECK(learned(trainer, 1000).empty());
  trainer.add(" xy xy");
  CHECK(learned(trainer, 1000) == std::vector<std::string>{"xy", "Ġxy"});
}

TEST_CASE("BpeTrainer: nothing to learn from", "[data]") {
  BpeTrainer trainer(Pattern::qwen2);
  CHECK(learned(trainer, 1000).empty());
  trainer.add("");
  trainer.add("\xFF\xFF\xFF\xFF");
  CHECK(learned(trainer, 1000).empty());
}

TEST_CASE("BpeTrainer: merges are those of the slow way", "[data]") {
  std::mt19937 random(7);
  for (int round = 0; round < 40; ++round) {
    // Few letters make many runs, where pairs overlap.
    const int num_letters = 1 + round % 4;
    BpeTrainer trainer(Pattern::none);
    std::vector<std::string> texts;
    for (int i = 0; i < 30; ++i) {
      std::string text;
      for (size_t n = random() % 25; n > 0; --n) {
        text.push_back(static_cast<char>('a' + random() % num_letters));
      }
      trainer.add(text);
      texts.push_back(text);
    }
    const auto model = trainer.train(300).model;
    std::vector<Ids> pieces;
    for (const auto& text : texts) {
      Ids ids;
      for (const char byte : text) {
        ids.push_back(byte - '!'); // ids begin with the printing ASCII characters
      }
      pieces.push_back(ids);
    }
    std::vector<Pair> merges;
    for (const auto& merge : model.merges) {
      merges.emplace_back(merge.left, merge.right);
    }
    CAPTURE(round);
    REQUIRE(merges == train_slowly(pieces, 300));
  }
}
