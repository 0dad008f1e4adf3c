#pragma once

#include <string>

#include "moe/editing/edited_model.h"
#include "moe/editing/text_sample.h"

namespace moe {

/// How a mixture becomes one network per layer.
struct CollapseOptions {
  /// `average`: a network of an expert's width whose weights are the experts' mean;
  /// `concatenate`: one with the hidden units of all experts.
  std::string method = "average";
  /// What each expert counts, the same in all layers; none: as `texts` weigh it, or all the
  /// same.
  std::vector<double> weights = {};
};

/// Makes a dense model of a mixture of experts. With c_e what router weight expert e has in the
/// mean over all tokens of `texts` (0 where it is not chosen), `concatenate` computes
/// Σ c_e · expert_e(x): the mixture without a choice, exactly the old function where the
/// router's weights do not depend on the input (K = E and equal rows). `average` merges the
/// weights themselves, which is no function of the experts' outputs unless they are alike:
/// train it afterwards. A shared expert becomes part of the network, exactly. Narrower networks
/// of other layers are filled up with units of zeros, which changes nothing.
///
/// Without `texts` each expert counts the same; then the router's weights must have a known
/// sum. Throws `Error` for models without experts, or with parts that no dense network can
/// take over.
EditedModel collapse(
    const ModelFolder& source,
    const CollapseOptions& options,
    const std::vector<TextSample>& texts = {});

} // namespace moe
