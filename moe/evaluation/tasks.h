#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "moe/data/tokenizer/tokenizer.h"

namespace moe {

// The rules of lm-evaluation-harness: https://github.com/EleutherAI/lm-evaluation-harness

/// A question: which of the choices goes best with the context?
struct MultipleChoice {
  std::string context;
  std::vector<std::string> choices; ///< each follows the context after one space
  int64_t label = 0;                ///< index of the right one
};

/// What a model is asked to do.
struct Tasks {
  std::vector<MultipleChoice> questions;
  std::vector<std::string> texts; ///< documents whose perplexity is measured
};

/// Reads JSONL: a line is a question, {"context": ..., "choices": [...], "label": 0}, or a
/// document, {"text": ...}. Throws `Error` that names file and line.
Tasks read_tasks(const std::filesystem::path& file);

/// How likely are the `continuation` ids after the `context` ids, of which there is at least
/// one?
struct LikelihoodRequest {
  std::vector<int32_t> context;
  std::vector<int32_t> continuation;
};

/// The ids of a choice after its context: spaces that end the context belong to the choice, and
/// both are encoded as one text. `prefix` stands for an empty context.
LikelihoodRequest encode_choice(
    const Tokenizer& tokenizer,
    const std::string& context,
    const std::string& continuation,
    int32_t prefix);

/// Requests that together predict every id of `ids` once, with as much before it as a context
/// of `max_length` ids holds; `prefix` stands before the first.
std::vector<LikelihoodRequest> rolling_requests(
    const std::vector<int32_t>& ids, int32_t prefix, int64_t max_length);

/// A share with its standard error.
struct Accuracy {
  double value = 0.0;
  double stderr_ = 0.0;
};

/// Results of questions.
struct ChoiceScore {
  int64_t questions = 0;
  Accuracy acc;       ///< the likeliest choice is the right one
  Accuracy acc_norm;  ///< by likelihood per character of the choice
  Accuracy acc_bytes; ///< by likelihood per byte of the choice
};

/// `log_likelihoods[i][j]` is that of choice j of question i, in nats.
ChoiceScore score_choices(
    const std::vector<MultipleChoice>& questions,
    const std::vector<std::vector<double>>& log_likelihoods);

/// Results of documents.
struct RollingScore {
  int64_t documents = 0;
  double word_perplexity = 0.0;
  double byte_perplexity = 0.0;
  double bits_per_byte = 0.0;
};

/// `log_likelihoods[i]` is that of `texts[i]`, in nats.
RollingScore score_texts(
    const std::vector<std::string>& texts, const std::vector<double>& log_likelihoods);

} // namespace moe
