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
  bool special = false;     ///< control token: left out by `skip_special`, not found in text
                            ///< from outside
  bool normalized = false;  ///< searched for in the second pass, in normalised text
  bool single_word = false; ///< only between characters that are no part of a word
  bool lstrip = false;      ///< takes the spaces before it along
  bool rstrip = false;      ///< takes the spaces behind it along
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
  bool byte_fallback = false;     ///< a character without a token becomes tokens `<0xNN>`
};

/// Text that is looked for: as it is, or a regular expression.
struct TextPattern {
  std::string text;
  bool is_regex = false;
};

/// One change of the text before it is cut.
struct NormalizerStep {
  enum class Kind { nfc, nfd, nfkc, nfkd, prepend, replace, strip };
  Kind kind = Kind::nfc;
  TextPattern pattern; ///< replace: what is replaced
  std::string content; ///< prepend, replace: by what
  bool left = false;   ///< strip: spaces at the beginning
  bool right = false;  ///< strip: spaces at the end
};

/// What becomes of the matches when text is cut at them.
enum class SplitBehavior {
  isolated,             ///< pieces of their own
  removed,              ///< left out
  merged_with_previous, ///< the end of the piece before
  merged_with_next,     ///< the beginning of the piece behind
  contiguous,           ///< pieces of their own, neighbouring ones as one
};

/// One cut of the text into pieces.
struct PreTokenizerStep {
  enum class Kind {
    scanner,          ///< by a known pattern
    split,            ///< at what `search` finds
    digits,           ///< digits apart from other text
    punctuation,      ///< punctuation apart from other text
    whitespace,       ///< words, and runs of what is neither word nor space
    whitespace_split, ///< at spaces
    metaspace,        ///< spaces become `content`, of which one begins the text
    prefix_space,     ///< a space before text that does not begin with one
  };
  enum class Prepend { always, first, never };
  Kind kind = Kind::scanner;
  Pattern pattern = Pattern::none;                  ///< scanner
  TextPattern search;                               ///< split
  SplitBehavior behavior = SplitBehavior::isolated; ///< split, digits, punctuation
  bool invert = false;                              ///< split: what is not found is the match
  std::string content;                              ///< metaspace
  Prepend prepend = Prepend::always;                ///< metaspace
  bool split_words = true;                          ///< metaspace: cuts before each `content`
};

/// One step from tokens back to text.
struct DecoderStep {
  enum class Kind { byte_level, replace, byte_fallback, fuse, strip, metaspace };
  Kind kind = Kind::byte_level;
  std::string pattern;     ///< replace, strip (one character), metaspace: what is looked for
  std::string content;     ///< replace: by what
  int64_t start = 0;       ///< strip: how many at most at the beginning
  int64_t stop = 0;        ///< strip: how many at most at the end
  bool drop_first = false; ///< metaspace: removes those of the first token
};

/// What `Tokenizer::with_special_tokens` puts around a text.
struct TemplateTokens {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
};

/// All parts of a tokenizer as plain data: what `tokenizer.json` says, validated.
struct TokenizerDefinition {
  std::vector<AddedToken> added_tokens; ///< ascending ids
  std::vector<NormalizerStep> normalizer;
  std::vector<PreTokenizerStep> pre_tokenizer;
  bool byte_level = true; ///< tokens are bytes in GPT-2's alphabet; else they are plain text
  BpeDefinition model;
  std::vector<DecoderStep> decoder = {DecoderStep()};
  TemplateTokens special_tokens;
  std::string eos_token; ///< ends a text by `tokenizer_config.json`; empty if it does not say

  /// JSON of components, kept as it is; empty where the steps above say how it is written.
  std::string normalizer_json = "null";
  std::string pre_tokenizer_json;
  std::string decoder_json;
  std::string post_processor_json = "null";
};

} // namespace moe
