#pragma once

#include "moe/editing/edited_model.h"
#include "moe/editing/text_sample.h"

namespace moe {

/// How experts are removed.
struct PruneOptions {
  int64_t experts = 0;              ///< that remain per layer; 0: as `share` says
  double share = 0.0;               ///< of the experts that remains per layer, rounded up
  std::string by = "activation";    ///< or "load": how experts are ranked
  std::vector<int64_t> layers = {}; ///< in which; none for all with experts
};

/// Removes the experts that matter least to `texts`, with their rows of the router.
///
/// `load` ranks by the number of tokens that choose an expert, `activation` by the mean over
/// these tokens of router weight times norm of the expert's output (REAP: Lasby et al., arXiv
/// 2510.13999). An expert that no token chooses comes last. The model that remains computes
/// what the old one would if nothing could choose the removed experts.
///
/// Throws `Error` unless at least `experts_per_token` and fewer than all remain.
EditedModel prune(
    const ModelFolder& source,
    const PruneOptions& options,
    const std::vector<TextSample>& texts);

} // namespace moe
