#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace moe {

/// Remembers the ids of short pieces. Fixed in size: a piece evicts whatever had its slot.
/// One slot is one cache line. Not for several threads at once.
class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 30;
  static constexpr size_t kMaxIds = 8;

  struct alignas(64) Slot {
    uint8_t num_bytes = 0; ///< 0: empty
    uint8_t num_ids = 0;
    std::array<char, kMaxBytes> bytes;
    std::array<int32_t, kMaxIds> ids;

    bool holds(std::string_view piece) const {
      return num_bytes == piece.size() &&
             std::memcmp(bytes.data(), piece.data(), piece.size()) == 0;
    }

    void store(std::string_view piece, const int32_t* first_id, size_t count) {
      num_bytes = static_cast<uint8_t>(piece.size());
      num_ids = static_cast<uint8_t>(count);
      std::memcpy(bytes.data(), piece.data(), piece.size());
      std::memcpy(ids.data(), first_id, count * sizeof(int32_t));
    }
  };

  PieceCache() : slots_(std::make_unique<std::array<Slot, kNumSlots>>()) {}

  Slot& slot(uint64_t hash) {
    return (*slots_)[hash >> 8 & (kNumSlots - 1)];
  }

 private:
  static constexpr size_t kNumSlots = 1 << 15; // 2 MiB
  std::unique_ptr<std::array<Slot, kNumSlots>> slots_;
};

} // namespace moe
