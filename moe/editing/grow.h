#pragma once

#include "moe/editing/edited_model.h"
#include "moe/editing/text_sample.h"

namespace moe {

/// How experts are added.
struct GrowOptions {
  int64_t experts = 2;              ///< new ones per layer
  std::vector<int64_t> layers = {}; ///< in which; none for all with experts
  int64_t seed = 0;
};

/// Adds experts to a trained model so that they can be trained alone, on a text that the model
/// does not know, while it stays what it is on those that it knows.
///
/// With `fresh` texts, the new experts are copies of those that these texts use most. Row j of
/// the router is the mean of the old rows, plus a little of what tells the copied experts
/// apart, plus one direction d, common to the layer:
///
///     row_j = mean(old rows) + 0.1 · (row of copied_j − mean(rows of copied)) + d
///
/// where d is fitted (`fit_separating_row`) so that in tokens of the fresh texts as many new
/// experts as a token may have are chosen, and none in the `kept` ones, which count 20 times as
/// much. Where d does that, kept texts are computed exactly as before; if weights of experts
/// are shares of all scores (`normalize_weights` off), nearly so, as the new ones take their
/// share, too. A selection bias of theirs is the K-th highest of the old ones. Without `kept`
/// texts, random ids stand for them, which count once. The layers follow each other, so that
/// each is fitted to what the new ones before it make of the texts. `EditedModel::report` has
/// what part of the choices falls to new experts.
///
/// Without any text, the new experts are copies of the first ones, and their rows the mean of
/// all rows with a little noise: such a row's logit is about the mean logit, which is seldom
/// among the K highest where K is small against E, so the function stays nearly as it was until
/// a load balancing loss draws tokens to the new experts.
///
/// Throws `Error` for models whose experts cannot be added to, or more new experts than a layer
/// has.
EditedModel grow(
    const ModelFolder& source,
    const GrowOptions& options,
    const std::vector<TextSample>& fresh = {},
    const std::vector<TextSample>& kept = {});

} // namespace moe
