#include "moe/data/tokenizer/bpe_trainer.h"

#include <algorithm>
#include <array>

#include "moe/data/tokenizer/byte_hash.h"
#include "moe/data/tokenizer/byte_level.h"
#include "moe/data/tokenizer/pair_merger.h"
#include "moe/data/tokenizer/pre_tokenizer.h"
#include "moe/error.h"

namespace moe {
namespace {

/// All bytes, ordered by the characters that stand for them: GPT-2's ids 0 to 255.
std::array<uint8_t, 256> ordered_bytes() {
  std::array<uint8_t, 256> bytes;
  for (int i = 0; i < 256; ++i) {
    bytes[i] = static_cast<uint8_t>(i);
  }
  std::sort(bytes.begin(), bytes.end(), [](uint8_t a, uint8_t b) {
    return byte_level_character(a) < byte_level_character(b);
  });
  return bytes;
}

} // namespace

BpeTrainer::BpeTrainer(Pattern pattern) : pattern_(pattern), slots_(1 << 16) {}

void BpeTrainer::add(std::string_view document) {
  for_each_piece(pattern_, document, [this](std::string_view piece) {
    if (piece.size() > 1) {
      count(piece);
    }
  });
}

void BpeTrainer::count(std::string_view piece) {
  const auto hash = static_cast<uint32_t>(hash_bytes(piece));
  size_t slot = hash & (slots_.size() - 1);
  for (; slots_[slot] > 0; slot = (slot + 1) & (slots_.size() - 1)) {
    auto& word = words_[slots_[slot] - 1];
    if (word.hash == hash && piece == std::string_view(text_).substr(word.begin, word.size)) {
      ++word.count;
      return;
    }
  }
  check(piece.size() < UINT32_MAX, "training text: a word of ", piece.size(), " bytes");
  check(words_.size() < UINT32_MAX - 1, "training text: too many distinct words");
  words_.push_back({text_.size(), static_cast<uint32_t>(piece.size()), hash, 1});
  text_.append(piece);
  slots_[slot] = static_cast<uint32_t>(words_.size());
  if (words_.size() * 2 > slots_.size()) {
    grow();
  }
}

void BpeTrainer::grow() {
  slots_.assign(slots_.size() * 4, 0);
  for (uint32_t i = 0; i < words_.size(); ++i) {
    size_t slot = words_[i].hash & (slots_.size() - 1);
    while (slots_[slot] > 0) {
      slot = (slot + 1) & (slots_.size() - 1);
    }
    slots_[slot] = i + 1;
  }
}

TokenizerDefinition BpeTrainer::train(int64_t max_tokens) const {
  TokenizerDefinition definition;
  definition.pre_tokenizer.emplace_back().pattern = pattern_;
  std::array<int32_t, 256> id_of_byte;
  auto& vocabulary = definition.model.vocabulary;
  for (const uint8_t byte : ordered_bytes()) {
    const auto id = static_cast<int32_t>(vocabulary.size());
    id_of_byte[byte] = id;
    vocabulary.push_back({to_byte_level(std::string(1, static_cast<char>(byte))), id});
  }

  PairMerger merger;
  std::vector<int32_t> ids;
  for (const auto& word : words_) {
    ids.clear();
    for (const char byte : std::string_view(text_).substr(word.begin, word.size)) {
      ids.push_back(id_of_byte[static_cast<uint8_t>(byte)]);
    }
    merger.add_piece(ids, word.count);
  }
  merger.count_pairs();
  while (static_cast<int64_t>(vocabulary.size()) < max_tokens) {
    const auto id = static_cast<int32_t>(vocabulary.size());
    const auto pair = merger.merge_best(id);
    if (pair.count == 0) {
      break;
    }
    vocabulary.push_back({vocabulary[pair.left].token + vocabulary[pair.right].token, id});
    definition.model.merges.push_back({pair.left, pair.right, id});
  }
  return definition;
}

} // namespace moe
