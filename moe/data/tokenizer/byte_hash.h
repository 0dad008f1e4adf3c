#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>

namespace moe {

/// A fast hash of short byte strings, for tables in memory only.
inline uint64_t hash_bytes(std::string_view bytes) {
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15;
  uint64_t hash = bytes.size() * kMultiplier;
  const auto mix = [&hash](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  };
  while (bytes.size() >= 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data(), 8);
    mix(word);
    bytes.remove_prefix(8);
  }
  uint64_t rest = 0;
  for (const char byte : bytes) {
    rest = rest << 8 | static_cast<uint8_t>(byte);
  }
  mix(rest);
  return hash;
}

/// A fast hash of two ids, for tables in memory only.
inline uint64_t hash_pair(int32_t left, int32_t right) {
  const uint64_t key =
      static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  const uint64_t hash = key * 0x9E3779B97F4A7C15;
  return hash ^ hash >> 32;
}

} // namespace moe
