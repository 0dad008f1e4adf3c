#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "moe/data/tokenizer/pattern.h"

namespace moe {

/// A token that is found in the text before anything else happens to it.
struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;    ///< control token: left out by `skip_special`, not found in text
                           ///< from outside
  bool normalized = false; ///< searched for in the second pass, after all that are not
};

/// A token of the model, written as in `tokenizer.json`.
struct VocabularyEntry {
  std::string token;
  int32_t id = 0;
};

/// Ids `left` and `right`, when neighbours, become `result`. Earlier merges go first.
struct Merge {
  int32_t left = 0;
  int32_t right = 0;
  int32_t result = 0;
};

/// What a byte-pair model is made of.
struct BpeDefinition {
  std::vector<VocabularyEntry> vocabulary; ///< ascending ids
  std::vector<Merge> merges;
  std::optional<int32_t> unknown; ///< stands for what has no token; without it that vanishes
  bool fuse_unknown = false;      ///< one `unknown` for a run of them
  bool ignore_merges = false;     ///< a piece that is a token as a whole is never split
};

/// All parts of a tokenizer as plain data: what `tokenizer.json` says, validated.
struct TokenizerDefinition {
  std::vector<AddedToken> added_tokens; ///< ascending ids
  Pattern pattern = Pattern::none;
  bool add_prefix_space = false;
  bool byte_level = true; ///< tokens are bytes in GPT-2's alphabet; else they are plain text
  BpeDefinition model;
  std::string post_processor = "null"; ///< JSON, kept as it is: `encode` does not use it
};

} // namespace moe
