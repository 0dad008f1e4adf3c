#pragma once

#include <torch/types.h>

#include <vector>

namespace moe {

/// Which keys a query sees, and how they are weighed.
struct FusedAttentionForm {
  /// Tokens that a token sees, itself included; 0 means all before it.
  int64_t sliding_window = 0;
  /// Factor of the products of queries and keys; 0 means 1 / sqrt(head_dim).
  double scale = 0.0;
  /// [H]: a logit per head that takes its part of the softmax but has no value, as in gpt-oss;
  /// undefined for none.
  torch::Tensor sinks;
  /// Where documents start in each of the B rows, 0 first and ascending; tokens of different
  /// documents do not see each other. Empty: a row is one document.
  std::vector<std::vector<int64_t>> document_starts;
};

/// Whether `fused_attention` computes this: float32 on the CPU, or what autocast made of it.
bool can_fuse_attention(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const FusedAttentionForm& form);

/// Softmax attention of each token to the tokens before it and to itself. `queries` [B, H, S,
/// head_dim], `keys` and `values` [B, Hkv, S, head_dim], where Hkv divides H and H / Hkv
/// consecutive heads share their keys -> [B, H, S, head_dim], laid out as [B, S, H, head_dim].
///
/// Computed by blocks (Dao et al., arXiv 2205.14135), so memory grows linearly with S.
/// Differentiable once in all four tensors; the same bits for any number of threads. Errors
/// where `can_fuse_attention` is false.
torch::Tensor fused_attention(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const FusedAttentionForm& form);

} // namespace moe
