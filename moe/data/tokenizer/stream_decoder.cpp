#include "moe/data/tokenizer/stream_decoder.h"

#include <utility>

namespace moe {

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special, bool continues)
    : tokenizer_(std::move(tokenizer)),
      skip_special_(skip_special),
      joiner_(tokenizer_.token_decoder(), InvalidBytes::early, continues) {}

std::string StreamDecoder::push(int32_t id) {
  const auto& text = tokenizer_.token_text(id);
  return skip_special_ && tokenizer_.is_special(id) ? "" : joiner_.push(text);
}

std::string StreamDecoder::finish() {
  return joiner_.finish();
}

} // namespace moe
