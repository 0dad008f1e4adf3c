#include "moe/data/tokenizer/byte_level.h"

#include <array>

#include "moe/data/utf8.h"

namespace moe {
namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr int kNumOthers = 68; // bytes that do not stand for themselves

constexpr auto kCharacterOfByte = [] {
  std::array<char32_t, 256> table{};
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    table[byte] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
  }
  return table;
}();

/// Byte of each character below U+0100 + kNumOthers, or -1.
constexpr auto kByteOfCharacter = [] {
  std::array<int, 0x100 + kNumOthers> table{};
  table.fill(-1);
  for (int byte = 0; byte < 256; ++byte) {
    table[kCharacterOfByte[byte]] = byte;
  }
  return table;
}();

} // namespace

char32_t byte_level_character(uint8_t byte) {
  return kCharacterOfByte[byte];
}

std::string to_byte_level(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    append_utf8(text, kCharacterOfByte[static_cast<uint8_t>(byte)]);
  }
  return text;
}

std::optional<std::string> from_byte_level(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  while (!text.empty()) {
    const auto step = next_utf8(text);
    const int byte = step.valid && step.code_point < kByteOfCharacter.size()
                         ? kByteOfCharacter[step.code_point]
                         : -1;
    if (byte < 0) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(byte));
    text.remove_prefix(step.length);
  }
  return bytes;
}

} // namespace moe
