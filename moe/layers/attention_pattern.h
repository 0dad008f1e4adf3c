#pragma once

#include <torch/types.h>

#include <cstdint>
#include <optional>
#include <vector>

namespace moe {

/// Which tokens see each other, and how strongly.
struct AttentionPattern {
  double scale = 0.0;         ///< of the scores; 0 means 1 / sqrt(head_dim)
  int64_t sliding_window = 0; ///< tokens that a token sees, itself included; 0 for no limit
  int64_t chunk = 0;          ///< tokens see only their own chunk of so many; 0 for no chunks
  torch::Tensor sinks = {};   ///< [H]: a score without a token, in every softmax; or undefined
};

/// Attention of S queries to the keys up to their own position. The queries are those of the
/// last S of the N tokens. Memory grows linearly with N, for one query and for all of them.
///
/// `queries` [B, H, S, head_dim], `keys` [B, Hkv, N, head_dim], `values` [B, Hkv, N,
/// value_dim], value_dim at most head_dim -> [B, H, S, value_dim].
torch::Tensor attend(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern);

/// The same for S = N by one kernel, where there is one for it; otherwise nothing. With
/// `document_starts`, where documents begin in each row, those do not see each other.
std::optional<torch::Tensor> fused_pattern(
    const torch::Tensor& queries,
    const torch::Tensor& keys,
    const torch::Tensor& values,
    const AttentionPattern& pattern,
    const std::vector<std::vector<int64_t>>& document_starts = {});

} // namespace moe
