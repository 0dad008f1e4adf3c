#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <cstdint>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/json_members_internal.h"
#include "moe/data/tokenizer/model_tables_internal.h"
#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Finds ids by token: open addressing, because large files look up a million times.
class TokenIndex {
 public:
  /// `vocabulary` must stay as it is. Throws `Error` for a token that is in it twice.
  explicit TokenIndex(const std::vector<VocabularyEntry>& vocabulary);

  /// The id, or null where there is no such token.
  const int32_t* find(std::string_view token) const;

 private:
  struct Slot {
    uint32_t tag = 0;    ///< the upper half of the hash
    uint32_t number = 0; ///< place in the vocabulary + 1; 0: empty
  };

  const std::vector<VocabularyEntry>& vocabulary_;
  std::vector<Slot> slots_; ///< a power of two
};

/// The `model` of a `tokenizer.json`, of type BPE: vocabulary, merges and options. What changes
/// the encoding and is not supported is an `Error` that names the key. Takes the tables.
BpeDefinition parse_bpe_model(TokenizerJson& json);

} // namespace moe
