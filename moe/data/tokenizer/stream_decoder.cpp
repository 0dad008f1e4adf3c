#include "moe/data/tokenizer/stream_decoder.h"

#include <utility>

#include "moe/data/utf8.h"

namespace moe {

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

std::string StreamDecoder::push(int32_t id) {
  const auto& bytes = tokenizer_.token_bytes(id);
  if (skip_special_ && tokenizer_.is_special(id)) {
    return "";
  }
  held_back_ += bytes;
  const size_t incomplete = incomplete_utf8_suffix(held_back_);
  auto rest = held_back_.substr(held_back_.size() - incomplete);
  held_back_.resize(held_back_.size() - incomplete);
  return lossy_utf8(std::exchange(held_back_, std::move(rest)));
}

std::string StreamDecoder::finish() {
  return lossy_utf8(std::exchange(held_back_, ""));
}

} // namespace moe
