#pragma once

#include <vector>

#include "moe/decoder/decoder_lm.h"
#include "moe/evaluation/tasks.h"

namespace moe {

/// The log-likelihood in nats of each request's continuation. Of a request longer than the
/// model's context only the last ids count. Throws `Error` for ids that the model does not
/// have, or an empty continuation.
std::vector<double> log_likelihoods(
    DecoderLM model, const std::vector<LikelihoodRequest>& requests, int64_t batch_size);

/// What a model makes of tasks.
struct TaskScores {
  ChoiceScore choices;  ///< no questions: all zero
  RollingScore rolling; ///< no documents: all zero
};

/// Asks the model everything. `prefix` is the id that stands before a text: the one that begins
/// texts, or else the one that ends them.
TaskScores evaluate_tasks(
    DecoderLM model,
    const Tokenizer& tokenizer,
    const Tasks& tasks,
    int32_t prefix,
    int64_t batch_size);

} // namespace moe
