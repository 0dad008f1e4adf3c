#pragma once

#include <string>
#include <utility>
#include <vector>

#include "moe/data/token_dataset.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/evaluation/routing_statistics.h"

namespace moe {

/// How well a model predicts a text.
struct TextScore {
  /// Mean cross-entropy in nats per token.
  double loss = 0.0;
  /// Standard error of `loss`, from the spread of the means of its windows, as tokens of one
  /// window are not independent. 0 for a single window.
  double loss_stderr = 0.0;
  /// exp(loss).
  double perplexity = 1.0;
  /// Bits per byte of text: comparable between tokenizers.
  double bits_per_byte = 0.0;
  int64_t tokens = 0;
  int64_t bytes = 0;
};

/// The result of an evaluation. Of `routing`, `churn` is the caller's, who knows the evaluation
/// before.
struct Evaluation {
  TextScore total;                                        ///< over all tokens of all domains
  std::vector<std::pair<std::string, TextScore>> domains; ///< in the order given
  std::vector<LayerRouting> routing;                      ///< one per MoE layer
  /// The experts of about 4096 tokens, evenly from all domains: [T, K] int64 by MoE layer,
  /// -1 for one that did not choose the token.
  std::vector<torch::Tensor> experts;
};

/// A text to evaluate on.
struct EvaluationDomain {
  std::string name;
  EvaluationWindows windows;
};

/// Throws `Error` naming a domain that has no token to predict.
void check_has_targets(const std::vector<EvaluationDomain>& domains);

/// Scores `model` on every token of `domains`, each predicted once. The model's training mode
/// is left as it was; no gradient is made and nothing of the model changes. Throws the error of
/// `check_has_targets`.
Evaluation evaluate(DecoderLM model, const std::vector<EvaluationDomain>& domains);

} // namespace moe
