#pragma once

#include <cstdint>
#include <string>

#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// Decodes one id at a time and hands out text as early as possible: everything except bytes
/// at the end that may still become a character. All parts joined are `Tokenizer::decode`.
///
/// Example:
/// ```
/// StreamDecoder decoder(tokenizer);
/// for (int32_t id : ids) {
///   std::cout << decoder.push(id);
/// }
/// std::cout << decoder.finish();
/// ```
class StreamDecoder {
 public:
  /// `skip_special` leaves special tokens out.
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false);

  /// Takes one id and returns the text that is certain by now: whole characters, often none.
  /// Throws `Error` on an id without a token.
  std::string push(int32_t id);

  /// Returns what was held back (U+FFFD for half a character) and starts afresh.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string held_back_; ///< bytes of an incomplete character
};

} // namespace moe
