#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Counts the pieces of documents and learns merges from them.
///
/// Training repeats: take the pair of neighbouring tokens with the highest count in all pieces
/// (of equal counts the one with the lowest left id, then right id) and make it a token. Pairs
/// that occur once are left alone. The result depends on the counts only, not on the order of
/// documents, and is the one that Hugging Face's `BpeTrainer` finds.
class BpeTrainer {
 public:
  explicit BpeTrainer(Pattern pattern);

  /// Counts the pieces of one document. The text is not kept.
  void add(std::string_view document);

  /// Byte-level BPE of at most `max_tokens` tokens (256 bytes first, ordered by their
  /// characters), without added tokens.
  TokenizerDefinition train(int64_t max_tokens) const;

 private:
  struct Word {
    size_t begin; ///< in text_
    uint32_t size;
    uint32_t hash;
    int64_t count;
  };

  void count(std::string_view piece);
  void grow();

  Pattern pattern_;
  std::string text_; ///< the distinct pieces, one after the other
  std::vector<Word> words_;
  std::vector<uint32_t> slots_; ///< open addressing: index of a word + 1
};

} // namespace moe
