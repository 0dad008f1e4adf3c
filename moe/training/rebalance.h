#pragma once

#include <torch/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "moe/layers/sparse_moe_block.h"
#include "moe/training/adamw.h"
#include "moe/training/metrics.h"

namespace moe {

/// Whether a router's choice follows from rows of its weight that experts can be given: not
/// that of a cosine gate, nor by hash or by the experts.
bool can_revive(const TopKRouterOptions& router);

/// Whether it is a collapse that reviving experts repairs.
bool can_revive(const Collapse& collapse);

/// The experts to revive: the dead ones, or those that the few leave less than 10 % of the mean
/// load in the step whose statistics are `layers`.
std::vector<int64_t> experts_to_revive(
    const Collapse& collapse, const std::vector<LayerRouting>& layers);

/// Revives the `dead` experts of `block`, which is layer `layer` of the model that `optimizer`
/// trains: each becomes one half of the expert that is the busiest at that time, its donor.
/// `inputs` [T, D] are what the block takes, a few thousand rows; `seed` draws the noise.
///
/// The function of the block should stay what it is. A copy with the donor's router row would
/// not do: both would be chosen for the same tokens, and push the donor's companions out. So
/// the donor's tokens are split in two halves along a direction in which they are far apart,
/// and the rows of the two experts are moved apart along it:
///
///     row of the donor = r + M/2 · (u − h),   row of the copy = r − M/2 · (u + h)
///
/// where, for the donor's tokens x, u·x is near +1 in one half and −1 in the other, and h·x is
/// near 1 (both fitted by ridge regression). The expert of a token's half so keeps the donor's
/// logit, and the other one's falls by M: the token goes to one of them, with the weight that
/// it had. M is the one, of several multiples of the usual gap between chosen experts, that
/// changes the block's output least for inputs that were not fitted to.
///
/// - Weights of the experts are copied, with noise of 1 % of their root mean square for the
/// copy.
/// - A selection bias is copied.
/// - Moments of the optimizer: each half gets half of the tokens, so gradients that are half as
///   large; both get half of the donor's first moment and a quarter of its second, which leaves
///   the size of their steps as it was.
///
/// Deterministic. Throws `c10::Error` for a router with which it is not possible, and for an
/// expert that the block does not have or that is named twice.
Revival revive_experts(
    SparseMoEBlock block,
    AdamW& optimizer,
    int64_t layer,
    const std::vector<int64_t>& dead,
    const torch::Tensor& inputs,
    uint64_t seed);

/// In words: `layer 1: revived expert 3 from expert 0, expert 5 from expert 2`.
std::string describe(const Revival& revival);

} // namespace moe
