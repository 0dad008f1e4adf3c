#pragma once

#include <memory>
#include <string>
#include <vector>

#include "moe/editing/edited_model.h"
#include "moe/editing/text_sample.h"

namespace moe {

/// How specialists become one mixture.
struct MergeOptions {
  /// What is not an expert: `average` of all models, or of the `first`.
  std::string trunk = "average";
  /// Of dense models: experts that a token goes to; 0 for 2. Mixtures keep theirs.
  int64_t experts_per_token = 0;
  int64_t seed = 0;
};

/// Makes one mixture of models that were trained from the same beginning, each for a domain of
/// its own (branch-train-mix: Sukhbaatar et al., arXiv 2403.07816). The feed-forward networks
/// of dense models become one expert each; the experts of mixtures are put side by side with
/// their rows of the router.
///
/// With `texts`, one for each model, each model's rows of the router get a direction that tells
/// the hidden states of its text from those of the others (`fit_separating_row`), layer after
/// layer, as the merged layers before make them. Without, the rows of dense models are drawn at
/// random, and those of mixtures stay as they are, which compares logits of different models:
/// train the router afterwards.
///
/// Throws `Error` for models of different options or tokenizers.
EditedModel merge(
    const std::vector<std::shared_ptr<const ModelFolder>>& sources,
    const MergeOptions& options,
    const std::vector<TextSample>& texts = {});

} // namespace moe
