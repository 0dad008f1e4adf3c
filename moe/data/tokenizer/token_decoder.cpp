#include "moe/data/tokenizer/token_decoder.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "moe/data/tokenizer/byte_level.h"
#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe {
namespace {

using DecoderKind = DecoderStep::Kind;

/// The byte of a token `<0xNN>`. Hugging Face's library takes what Rust reads as a number of
/// two places, thus also `<0xab>` and `<0x+1>`.
std::optional<char> byte_of(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token.back() != '>') {
    return std::nullopt;
  }
  auto digits = token.substr(3, 2);
  if (digits[0] == '+') {
    digits.remove_prefix(1);
  }
  unsigned value = 0;
  const auto [stop, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (error != std::errc() || stop != digits.data() + digits.size() || digits[0] == '-') {
    return std::nullopt;
  }
  return static_cast<char>(value);
}

/// `text` without up to `step.start` copies at its beginning and `step.stop` at its end.
std::string strip(std::string_view text, const DecoderStep& step) {
  const size_t size = step.pattern.size();
  for (int64_t i = 0; i < step.start && text.substr(0, size) == step.pattern; ++i) {
    text.remove_prefix(size);
  }
  for (int64_t i = 0;
       i < step.stop && text.size() >= size && text.substr(text.size() - size) == step.pattern;
       ++i) {
    text.remove_suffix(size);
  }
  return std::string(text);
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  size_t begin = 0;
  for (size_t at = text.find(from); at != std::string_view::npos; at = text.find(from, begin)) {
    result.append(text, begin, at - begin).append(to);
    begin = at + from.size();
  }
  return result.append(text, begin);
}

/// Bytes at the end that wait for the next ones: those of an incomplete character, and the
/// first two of a surrogate, about which Python's incremental decoder, too, decides with the
/// third.
size_t undecided_bytes(std::string_view bytes) {
  const size_t size = bytes.size();
  const bool is_surrogate = size >= 2 && static_cast<uint8_t>(bytes[size - 2]) == 0xED &&
                            (static_cast<uint8_t>(bytes[size - 1]) & 0xE0) == 0xA0;
  return is_surrogate ? 2 : incomplete_utf8_suffix(bytes);
}

std::string replacement_characters(size_t count) {
  std::string text;
  for (; count > 0; --count) {
    text += "\uFFFD";
  }
  return text;
}

} // namespace

TokenDecoder::TokenDecoder(std::vector<DecoderStep> steps) {
  bool is_fused = false;
  for (auto& step : steps) {
    const bool is_alone = steps.size() == 1;
    switch (step.kind) {
      case DecoderKind::byte_level:
        check(is_alone, "decoder: ByteLevel beside other decoders is not supported");
        is_byte_level_ = true;
        break;
      case DecoderKind::byte_fallback:
        check(
            !is_fused && !has_byte_fallback_,
            "decoder: ByteFallback after Fuse or twice is not supported");
        has_byte_fallback_ = true;
        break;
      case DecoderKind::fuse:
        is_fused = true;
        break;
      case DecoderKind::strip:
        if (is_fused) {
          check(
              step.stop == 0 && strip_start_ == 0,
              "decoder: after Fuse only one Strip with stop 0 is supported");
          strip_start_ = step.start;
          strip_character_ = step.pattern;
          break;
        }
        [[fallthrough]];
      default:
        check(!is_fused, "decoder: after Fuse only Strip is supported");
        (has_byte_fallback_ ? after_bytes_ : before_bytes_).push_back(std::move(step));
    }
  }
}

std::string TokenDecoder::apply(const DecoderStep& step, std::string text, bool is_first) {
  if (step.kind == DecoderKind::strip) {
    return strip(text, step);
  }
  const bool drops = step.kind == DecoderKind::metaspace && is_first && step.drop_first;
  const bool is_metaspace = step.kind == DecoderKind::metaspace;
  return replaced(text, step.pattern, drops ? "" : is_metaspace ? " " : step.content);
}

TokenText TokenDecoder::text_of(const std::string& token) const {
  if (is_byte_level_) {
    auto bytes = from_byte_level(token).value_or(token);
    return {bytes, bytes, false};
  }
  TokenText text = {token, token, false};
  for (const auto& step : before_bytes_) {
    text.bytes = apply(step, std::move(text.bytes), /*is_first=*/false);
    text.first_bytes = apply(step, std::move(text.first_bytes), /*is_first=*/true);
  }
  if (const auto byte = has_byte_fallback_ ? byte_of(text.bytes) : std::nullopt) {
    return {std::string(1, *byte), std::string(1, *byte), true};
  }
  for (const auto& step : after_bytes_) {
    text.bytes = apply(step, std::move(text.bytes), /*is_first=*/false);
    text.first_bytes = apply(step, std::move(text.first_bytes), /*is_first=*/true);
  }
  return text;
}

void TokenJoiner::begin() {
  is_first_ = !continues_;
  strip_left_ = continues_ ? 0 : decoder_->strip_start();
}

std::string TokenJoiner::push(const TokenText& token) {
  const auto& bytes = is_first_ ? token.first_bytes : token.bytes;
  if (decoder_->is_byte_level() || (token.is_byte && invalid_ == InvalidBytes::early)) {
    is_first_ = false;
    held_back_ += bytes;
    return stripped(certain_bytes());
  }
  if (token.is_byte) {
    held_back_ += bytes;
    return "";
  }
  auto text = end_run();
  text += is_first_ ? token.first_bytes : token.bytes;
  is_first_ = false;
  return stripped(std::move(text));
}

/// What of the bytes held back can no longer change, or everything where they are kept.
std::string TokenJoiner::certain_bytes() {
  if (invalid_ == InvalidBytes::keep) {
    return std::exchange(held_back_, "");
  }
  const size_t certain = held_back_.size() - undecided_bytes(held_back_);
  auto rest = held_back_.substr(certain);
  held_back_.resize(certain);
  auto text = std::exchange(held_back_, std::move(rest));
  if (decoder_->is_byte_level()) {
    return lossy_utf8(text);
  }
  const size_t valid = valid_utf8_prefix(text);
  return text.substr(0, valid) + replacement_characters(text.size() - valid);
}

/// The text of a run of byte tokens that is over: one U+FFFD for each byte if it is not UTF-8.
std::string TokenJoiner::end_run() {
  auto run = std::exchange(held_back_, "");
  if (!run.empty()) {
    is_first_ = false;
  }
  const bool stays = invalid_ == InvalidBytes::keep || is_valid_utf8(run);
  return stays ? run : replacement_characters(run.size());
}

std::string TokenJoiner::stripped(std::string text) {
  const auto& character = decoder_->strip_character();
  while (strip_left_ > 0 && !text.empty()) {
    if (text.rfind(character, 0) != 0) {
      strip_left_ = 0;
      break;
    }
    text.erase(0, character.size());
    --strip_left_;
  }
  return text;
}

std::string TokenJoiner::finish() {
  auto text = decoder_->is_byte_level() && invalid_ != InvalidBytes::keep
                  ? lossy_utf8(std::exchange(held_back_, ""))
                  : end_run();
  text = stripped(std::move(text));
  begin();
  return text;
}

} // namespace moe
