#pragma once

#include <torch/types.h>

namespace moe {

/// What attention takes: queries [B, S, H, head_dim], keys and values [B, S, Hkv, head_dim].
struct AttentionHeads {
  torch::Tensor queries;
  torch::Tensor keys;
  torch::Tensor values;
};

/// How a projection becomes heads.
struct AttentionHeadsForm {
  int64_t num_heads;
  int64_t num_kv_heads;
  int64_t head_dim;
  torch::Tensor query_norm; ///< [head_dim]: weights of the norm of queries; undefined for none
  torch::Tensor key_norm;   ///< [head_dim], likewise
  double norm_epsilon;
  torch::Tensor cos; ///< [S, rotary_dim / 2]: angles by position and pair
  torch::Tensor sin;
};

/// Whether `attention_heads` computes this: heads of at most 512, on the CPU, in float32 or,
/// where autocast made it, `projected` in its type.
bool can_fuse_attention_heads(const torch::Tensor& projected, const AttentionHeadsForm& form);

/// Splits, norms and turns all heads in one pass, and in one backward. `projected` [B, S,
/// (H + 2 Hkv) · head_dim] holds a token's queries, then its keys, then its values. Pair
/// (i, i + rotary_dim / 2) of queries and keys is turned by the token's angles; elements of a
/// head from rotary_dim on stay. Differentiable in `projected` and the norms' weights. Errors
/// where `can_fuse_attention_heads` is false.
AttentionHeads attention_heads(const torch::Tensor& projected, const AttentionHeadsForm& form);

} // namespace moe
