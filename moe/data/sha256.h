#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace moe {

/// SHA-256 (FIPS 180-4) of a stream of bytes.
///
/// Example:
/// ```
/// Sha256 hash;
/// hash.update("abc");
/// std::string hex = to_hex(hash.digest());
/// ```
class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;

  void update(std::string_view bytes);

  /// The digest of all bytes so far; more may follow.
  Digest digest() const;

 private:
  void process_block(const uint8_t* block);

  std::array<uint32_t, 8> state_ = {
      0x6a09e667,
      0xbb67ae85,
      0x3c6ef372,
      0xa54ff53a,
      0x510e527f,
      0x9b05688c,
      0x1f83d9ab,
      0x5be0cd19};
  std::array<uint8_t, 64> buffer_{};
  uint64_t length_ = 0;
};

Sha256::Digest sha256(std::string_view bytes);

/// Two lower-case hexadecimal digits per byte.
std::string to_hex(const Sha256::Digest& digest);

} // namespace moe
