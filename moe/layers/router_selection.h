#pragma once

#include <torch/types.h>

#include "moe/layers/router_options.h"

namespace moe {

/// What a selection is made from.
struct SelectionInput {
  torch::Tensor logits;         ///< [T, E]
  torch::Tensor scores;         ///< [T, E]
  torch::Tensor selection_bias; ///< [E]; undefined for none
  torch::Tensor token_ids;      ///< [T] int64; undefined where nothing asks for them
  bool training = false;
};

/// The experts of T tokens.
struct Selection {
  torch::Tensor experts; ///< [T, K] int64, the preferred first; all E for `expert_choice`
  torch::Tensor chosen;  ///< [T, E] bool for `expert_choice`, undefined otherwise
};

/// Chooses as `options.selection()` says. Nothing is differentiated.
Selection select_experts(const SelectionInput& input, const TopKRouterOptions& options);

} // namespace moe
