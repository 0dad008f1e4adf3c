#include "moe/data/tokenizer/unicode_classes.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

namespace moe {
namespace {

constexpr char32_t kBlockSize = 128;
constexpr char32_t kNumBlocks = 0x110000 / kBlockSize;
using Block = std::array<CharacterClass, kBlockSize>;

/// A two-stage table: most blocks of 128 code points are alike and stored once.
class ClassTable {
 public:
  ClassTable() {
    std::vector<CharacterClass> classes(0x110000, CharacterClass::other);
    fill(classes, letter_ranges(), CharacterClass::letter);
    fill(classes, number_ranges(), CharacterClass::number);
    fill(classes, space_ranges(), CharacterClass::space);
    std::map<Block, uint16_t> known;
    for (char32_t i = 0; i < kNumBlocks; ++i) {
      Block block;
      std::copy_n(classes.begin() + i * kBlockSize, kBlockSize, block.begin());
      const auto [entry, is_new] = known.emplace(block, static_cast<uint16_t>(blocks_.size()));
      if (is_new) {
        blocks_.push_back(block);
      }
      index_[i] = entry->second;
    }
  }

  CharacterClass operator[](char32_t code_point) const {
    return blocks_[index_[code_point / kBlockSize]][code_point % kBlockSize];
  }

 private:
  static void fill(
      std::vector<CharacterClass>& classes,
      std::span<const CodePointRange> ranges,
      CharacterClass value) {
    for (const auto& range : ranges) {
      std::fill(classes.begin() + range.first, classes.begin() + range.last + 1, value);
    }
  }

  std::array<uint16_t, kNumBlocks> index_;
  std::vector<Block> blocks_;
};

} // namespace

CharacterClass character_class(char32_t code_point) {
  static const ClassTable table;
  return code_point < 0x110000 ? table[code_point] : CharacterClass::other;
}

} // namespace moe
