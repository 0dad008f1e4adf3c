#include "moe/data/permutation.h"

namespace moe {
namespace {

uint64_t finalize(uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

} // namespace

uint64_t mix_bits(std::initializer_list<uint64_t> parts) {
  uint64_t mixed = 0;
  for (const uint64_t part : parts) {
    mixed = finalize((mixed ^ part) + 0x9e3779b97f4a7c15u);
  }
  return mixed;
}

int64_t permute(int64_t index, int64_t size, uint64_t key) {
  int half_bits = 1;
  while (half_bits < 31 && (int64_t{1} << (2 * half_bits)) < size) {
    ++half_bits;
  }
  const uint64_t half_mask = (uint64_t{1} << half_bits) - 1;
  auto walked = static_cast<uint64_t>(index);
  do {
    uint64_t left = walked >> half_bits;
    uint64_t right = walked & half_mask;
    for (uint64_t round = 0; round < 6; ++round) {
      const uint64_t next = left ^ (mix_bits({key, round, right}) & half_mask);
      left = right;
      right = next;
    }
    walked = (left << half_bits) | right;
  } while (walked >= static_cast<uint64_t>(size));
  return static_cast<int64_t>(walked);
}

} // namespace moe
