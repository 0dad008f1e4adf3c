#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// What a token adds to a decoded text.
struct TokenText {
  std::string bytes;
  std::string first_bytes; ///< the same where it is the first of a text
  bool is_byte = false;    ///< one byte of a character that `<0xNN>` tokens spell
};

/// The steps from tokens to text as a function of one token and a little state.
class TokenDecoder {
 public:
  /// Throws `Error` for an order of steps that is not supported.
  explicit TokenDecoder(std::vector<DecoderStep> steps);

  /// What the token that is written so adds.
  TokenText text_of(const std::string& token) const;

  /// Whether tokens are bytes that are joined before they become characters.
  bool is_byte_level() const {
    return is_byte_level_;
  }

  /// Copies of `strip_character` that are taken off the beginning of the whole text.
  int64_t strip_start() const {
    return strip_start_;
  }
  const std::string& strip_character() const {
    return strip_character_;
  }

 private:
  static std::string apply(const DecoderStep& step, std::string text, bool is_first);

  std::vector<DecoderStep> before_bytes_; ///< on each token
  std::vector<DecoderStep> after_bytes_;
  bool is_byte_level_ = false;
  bool has_byte_fallback_ = false;
  int64_t strip_start_ = 0;
  std::string strip_character_;
};

/// What becomes of bytes that are no UTF-8.
enum class InvalidBytes {
  keep,    ///< they stay
  replace, ///< U+FFFD, as Hugging Face does once all tokens are known
  early,   ///< U+FFFD, and whole characters are handed out as soon as they are there
};

/// Joins the texts of tokens, one at a time.
class TokenJoiner {
 public:
  /// `continues`: the tokens go on from other text, so nothing is taken off their beginning.
  TokenJoiner(const TokenDecoder& decoder, InvalidBytes invalid, bool continues = false)
      : decoder_(&decoder), invalid_(invalid), continues_(continues) {
    begin();
  }

  /// Takes one token and returns the text that is certain by now.
  std::string push(const TokenText& token);

  /// Returns what was held back.
  std::string finish();

 private:
  void begin();
  std::string certain_bytes();
  std::string end_run();
  std::string stripped(std::string text);

  const TokenDecoder* decoder_;
  InvalidBytes invalid_;
  bool continues_;
  int64_t strip_left_ = 0;
  bool is_first_ = true;
  std::string held_back_; ///< bytes of an incomplete character or of a run of byte tokens
};

} // namespace moe
