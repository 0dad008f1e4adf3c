#pragma once

#include <torch/types.h>

#include <vector>

#include "moe/training/trainable_rows.h"

namespace moe {

/// How a router's selection bias moves after each step.
struct SelectionBiasRule {
  /// Added to or taken from the bias of an expert, against scores of 0 to 1.
  double rate = 0.001;
  /// In proportion to how far the load is from even, instead of by its sign.
  bool proportional = false;
  /// Take the mean off what is added, so that biases do not drift together.
  bool centered = false;
};

/// Balances experts without a loss (Wang et al., arXiv 2408.15664; DeepSeek-V3): raises the
/// bias of experts that got fewer rows than the mean and lowers that of the others,
///
///     bias_e += rate · sign(mean count − count_e)
///     bias_e += rate · (mean count − count_e) / mean count     if `proportional`
///
/// `bias` [E] is changed in place, of the experts in `rows` only. `counts` [E] are the rows
/// that each expert got in the whole step; without any, nothing changes.
void update_selection_bias(
    const torch::Tensor& bias,
    const torch::Tensor& counts,
    const SelectionBiasRule& rule,
    const std::vector<RowRange>& rows);

} // namespace moe
