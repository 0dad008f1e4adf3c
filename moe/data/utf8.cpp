#include "moe/data/utf8.h"

#include <cstdint>
#include <cstring>

namespace moe {
namespace {

/// What a leading byte demands of the bytes behind it.
struct LeadingByte {
  size_t length = 0; ///< of the character; 0 for a byte that begins none
  uint8_t second_min = 0x80;
  uint8_t second_max = 0xBF;
};

LeadingByte classify(uint8_t byte) {
  if (byte < 0x80) {
    return {1};
  }
  if (byte < 0xC2 || byte > 0xF4) {
    return {};
  }
  if (byte < 0xE0) {
    return {2};
  }
  if (byte < 0xF0) {
    const uint8_t min = byte == 0xE0 ? 0xA0 : 0x80; // no over-long forms
    const uint8_t max = byte == 0xED ? 0x9F : 0xBF; // no surrogates
    return {3, min, max};
  }
  const uint8_t min = byte == 0xF0 ? 0x90 : 0x80;
  const uint8_t max = byte == 0xF4 ? 0x8F : 0xBF; // nothing past U+10FFFF
  return {4, min, max};
}

} // namespace

Utf8Step next_utf8(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  if (lead < 0x80) {
    return {lead, 1, true};
  }
  const auto [length, second_min, second_max] = classify(lead);
  if (length == 0) {
    return {0xFFFD, 1, false};
  }
  char32_t code_point = lead & (0x7F >> length);
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<uint8_t>(i < text.size() ? text[i] : 0);
    const uint8_t min = i == 1 ? second_min : 0x80;
    const uint8_t max = i == 1 ? second_max : 0xBF;
    if (byte < min || byte > max) {
      return {0xFFFD, i, false};
    }
    code_point = code_point << 6 | (byte & 0x3F);
  }
  return {code_point, length, true};
}

Utf8Step last_utf8(std::string_view text) {
  size_t begin = text.size() - 1;
  while (begin > 0 && text.size() - begin < 4 &&
         (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) {
    --begin;
  }
  const auto step = next_utf8(text.substr(begin));
  return begin + step.length == text.size() ? step : Utf8Step{0xFFFD, 1, false};
}

size_t valid_utf8_prefix(std::string_view text) {
  size_t position = 0;
  while (position < text.size()) {
    uint64_t eight_bytes = 0;
    if (text.size() - position >= sizeof(eight_bytes)) {
      std::memcpy(&eight_bytes, text.data() + position, sizeof(eight_bytes));
      if ((eight_bytes & 0x8080808080808080) == 0) {
        position += sizeof(eight_bytes);
        continue;
      }
    }
    const auto step = next_utf8(text.substr(position));
    if (!step.valid) {
      return position;
    }
    position += step.length;
  }
  return position;
}

bool is_valid_utf8(std::string_view text) {
  return valid_utf8_prefix(text) == text.size();
}

size_t incomplete_utf8_suffix(std::string_view text) {
  for (size_t length = 1; length <= 3 && length <= text.size(); ++length) {
    const auto suffix = text.substr(text.size() - length);
    const auto lead = static_cast<uint8_t>(suffix[0]);
    if (lead >= 0x80 && lead < 0xC0) {
      continue;
    }
    const bool is_unfinished =
        classify(lead).length > length && next_utf8(suffix).length == length;
    return is_unfinished ? length : 0;
  }
  return 0;
}

std::string lossy_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  while (true) {
    const size_t valid = valid_utf8_prefix(text);
    result.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) {
      return result;
    }
    append_utf8(result, 0xFFFD);
    text.remove_prefix(next_utf8(text).length);
  }
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto add = [&text](char32_t byte) { text.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    add(code_point);
  } else if (code_point < 0x800) {
    add(0xC0 | code_point >> 6);
    add(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    add(0xE0 | code_point >> 12);
    add(0x80 | (code_point >> 6 & 0x3F));
    add(0x80 | (code_point & 0x3F));
  } else {
    add(0xF0 | code_point >> 18);
    add(0x80 | (code_point >> 12 & 0x3F));
    add(0x80 | (code_point >> 6 & 0x3F));
    add(0x80 | (code_point & 0x3F));
  }
}

} // namespace moe
