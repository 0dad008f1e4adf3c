#include "moe/layers/token_hash.h"

#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr int64_t kLow32Bits = 0xffffffff;

/// Spreads numbers below 2^32 over as many, one to one ("lowbias32" of the hash prospector).
/// The factors are below 2^31, so that no product overflows.
torch::Tensor mix(torch::Tensor bits) {
  bits = (bits ^ bits.__rshift__(16)) * 0x21f0aaad & kLow32Bits;
  bits = (bits ^ bits.__rshift__(15)) * 0x735a2d97 & kLow32Bits;
  return bits ^ bits.__rshift__(15);
}

} // namespace

torch::Tensor token_hash(const torch::Tensor& token_ids, int64_t num_experts, int64_t seed) {
  const auto experts = torch::arange(num_experts, token_ids.options());
  const auto of_experts = mix((experts + (seed & 0xffff) * 0x10001) & kLow32Bits); // [E]
  const auto of_tokens = mix((token_ids + 0x5bd1e995) & kLow32Bits).unsqueeze(1);  // [T, 1]
  // Equal hashes are told apart by the expert.
  return mix(of_tokens ^ of_experts) * num_experts + experts;
}

} // namespace moe
