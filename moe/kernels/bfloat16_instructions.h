#pragma once

namespace moe {

/// What a processor offers for products of bfloat16.
enum class BFloat16Instructions {
  unknown, ///< not an x86 processor
  none,
  slower, ///< than those of float32: Intel's AVX-512, at half of the rate
  faster, ///< at twice the rate or more: AMX, AMD's AVX-512
};

/// What this processor offers, by its features and never by a timing.
BFloat16Instructions bfloat16_instructions();

} // namespace moe
