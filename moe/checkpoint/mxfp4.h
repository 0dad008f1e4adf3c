#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace moe {

/// Elements of an MXFP4 block: 4 bits each, with one exponent of 8 bits (Open Compute Project,
/// Microscaling Formats 1.0).
constexpr int64_t kMxfp4Block = 32;

/// Expands MXFP4 blocks of 16 bytes, the even element in the lower half of each byte, with
/// their exponents, one byte each: `values` has room for 32 numbers per exponent.
void decode_mxfp4(
    std::span<const std::byte> blocks,
    std::span<const std::byte> exponents,
    std::span<float> values);

} // namespace moe
