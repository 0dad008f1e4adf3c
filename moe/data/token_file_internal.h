#pragma once

#include <bit>
#include <cstdint>
#include <string_view>

#include "moe/data/sha256.h"

// The layout of a token file, for its reader and its writer only.

namespace moe {

static_assert(std::endian::native == std::endian::little, "token files are little endian");

inline constexpr std::string_view kTokenFileMagic = "MOETOKEN";
inline constexpr uint32_t kTokenFileVersion = 1;

struct TokenFileHeader {
  char magic[8];
  uint32_t version;
  uint32_t bytes_per_id;
  uint64_t vocab_size;
  Sha256::Digest tokenizer;
};
static_assert(sizeof(TokenFileHeader) == 56);

struct TokenFileFooter {
  uint64_t tokens;
  uint64_t documents;
  uint64_t text_bytes;
  char magic[8];
};
static_assert(sizeof(TokenFileFooter) == 32);

inline uint32_t token_id_bytes(int64_t vocab_size) {
  return vocab_size <= 65536 ? 2 : 4;
}

inline uint64_t token_file_padded(uint64_t bytes) {
  return (bytes + 7) / 8 * 8;
}

} // namespace moe
