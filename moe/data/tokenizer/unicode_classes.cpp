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
    fill(classes, unicode_ranges("L").value(), CharacterClass::letter);
    fill(classes, unicode_ranges("N").value(), CharacterClass::number);
    fill(classes, unicode_ranges("space").value(), CharacterClass::space);
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

std::optional<std::vector<CodePointRange>> unicode_ranges(std::string_view name) {
  std::vector<CodePointRange> all;
  for (const auto& table : unicode_tables()) {
    const bool is_part = name.size() == 1 && table.name.size() == 2 && table.name[0] == name[0];
    if (table.name == name || is_part) {
      all.insert(all.end(), table.ranges.begin(), table.ranges.end());
    }
  }
  if (all.empty()) {
    return std::nullopt;
  }
  std::sort(
      all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<CodePointRange> joined;
  for (const auto& range : all) {
    if (!joined.empty() && joined.back().last + 1 == range.first) {
      joined.back().last = range.last;
    } else {
      joined.push_back(range);
    }
  }
  return joined;
}

std::vector<CodePointRange> complement(std::span<const CodePointRange> ranges) {
  std::vector<CodePointRange> result;
  char32_t next = 0;
  for (const auto& [first, last] : ranges) {
    if (first > next) {
      result.push_back({next, first - 1});
    }
    next = last + 1;
  }
  if (next < 0x110000) {
    result.push_back({next, 0x10FFFF});
  }
  return result;
}

bool contains(std::span<const CodePointRange> ranges, char32_t code_point) {
  const auto next = std::upper_bound(
      ranges.begin(), ranges.end(), code_point, [](char32_t value, const auto& range) {
        return value < range.first;
      });
  return next != ranges.begin() && std::prev(next)->last >= code_point;
}

} // namespace moe
