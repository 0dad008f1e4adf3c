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
/// the router is that of the copied expert plus one direction d, common to the layer:
///
///     logit_new(x) = logit_copied(x) + d · x
///
/// where d is fitted (`fit_separating_row`) so that copies win over all old experts in tokens
/// of the fresh texts and lose in those of the `kept` ones. Where d does that, kept texts are
/// computed exactly as before, and of fresh ones those tokens whose old experts were all
/// copied. Without `kept` texts, random ids stand for them. The layers follow each other, so
/// that each is fitted to what the new ones before it make of the texts. `EditedModel::report`
/// has what part of the choices falls to new experts.
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
