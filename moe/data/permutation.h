#pragma once

#include <cstdint>
#include <initializer_list>

namespace moe {

/// A 64-bit value that depends on every bit of all parts (splitmix64's finaliser, chained).
uint64_t mix_bits(std::initializer_list<uint64_t> parts);

/// Where `index` goes in a pseudo-random permutation of 0 to size - 1 chosen by `key`: a
/// Feistel network on the next even number of bits, walked until it lands below `size`. Needs
/// no memory.
///
/// Example:
/// ```
/// for (int64_t i = 0; i < size; ++i) visit(permute(i, size, key));   // each exactly once
/// ```
int64_t permute(int64_t index, int64_t size, uint64_t key);

} // namespace moe
