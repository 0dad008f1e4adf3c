#pragma once

#include <cstdint>
#include <string>

#include "moe/data/tokenizer/token_decoder.h"
#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

/// Decodes one id at a time and hands out text as early as possible: everything except bytes
/// at the end that may still become a character. All parts joined are `Tokenizer::decode`,
/// with one exception: where characters are spelt by tokens `<0xNN>` and a run of these turns
/// out to be no UTF-8, what was handed out of it stays.
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
  /// `skip_special` leaves special tokens out. `continues`: the ids go on from other text, so a
  /// space that begins them stays.
  explicit StreamDecoder(
      Tokenizer tokenizer, bool skip_special = false, bool continues = false);

  /// Takes one id and returns the text that is certain by now: whole characters, often none.
  /// Throws `Error` on an id without a token.
  std::string push(int32_t id);

  /// Returns what was held back (U+FFFD for half a character) and starts afresh.
  std::string finish();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  TokenJoiner joiner_;
};

} // namespace moe
