#include "moe/kernels/cpu_bfloat16.h"

#include "moe/kernels/bfloat16.h"

namespace moe::cpu {

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void round_row(const float* __restrict from, int64_t count, uint16_t* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = to_bfloat16(from[i]);
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void widen_row(const uint16_t* __restrict from, int64_t count, float* __restrict to) {
  for (int64_t i = 0; i < count; ++i) {
    to[i] = from_bfloat16(from[i]);
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void round_to_pair(
    const float* __restrict first,
    const float* __restrict second,
    int64_t columns,
    uint16_t* __restrict pair) {
  for (int64_t i = 0; i < columns; ++i) {
    pair[2 * i] = to_bfloat16(first[i]);
    pair[2 * i + 1] = second != nullptr ? to_bfloat16(second[i]) : 0;
  }
}

void round_to_pairs(const float* from, int64_t depth, int64_t columns, uint16_t* pairs) {
  for (int64_t row = 0; row < depth; row += 2) {
    const float* const first = from + row * columns;
    const float* const second = row + 1 < depth ? first + columns : nullptr;
    round_to_pair(first, second, columns, pairs + row * columns);
  }
}

#ifdef __x86_64__
[[gnu::target_clones("default", "avx2", "avx512f")]]
#endif
void widen_pair(
    const uint16_t* __restrict pair,
    int64_t columns,
    float* __restrict first,
    float* __restrict second) {
  for (int64_t i = 0; i < columns; ++i) {
    first[i] = from_bfloat16(pair[2 * i]);
    second[i] = from_bfloat16(pair[2 * i + 1]);
  }
}

} // namespace moe::cpu
