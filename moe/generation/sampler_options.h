#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// How the next token is chosen and when a text ends.
///
/// Each field is documented in `visit_fields`, from which the flag and the help text are
/// derived.
struct SamplerOptions {
  int64_t max_new_tokens = 100;
  double temperature = 0.8;
  int64_t top_k = 40;
  double top_p = 0.95;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  std::vector<std::string> stop;
  bool ignore_end_of_text = false;
  int64_t seed = 0;

  /// Calls `visit(name, field, help)` for every field, in the order of the struct.
  template <class Options, class Visitor>
  static void visit_fields(Options& options, Visitor&& visit) {
    visit("max_new_tokens", options.max_new_tokens, "Tokens to write at most.");
    visit(
        "temperature",
        options.temperature,
        "Divides the logits; 0 always takes the most likely token.");
    visit("top_k", options.top_k, "Keep the k most likely tokens; 0 keeps all.");
    visit(
        "top_p",
        options.top_p,
        "Keep the most likely tokens that reach this probability; 1 keeps all.");
    visit(
        "min_p",
        options.min_p,
        "Drop tokens less likely than this share of the most likely one; 0 drops none.");
    visit(
        "repetition_penalty",
        options.repetition_penalty,
        "Divides positive and multiplies negative logits of tokens seen; 1 for none.");
    visit("stop", options.stop, "End before this text; repeatable.");
    visit(
        "ignore_end_of_text", options.ignore_end_of_text, "Go on after the end-of-text token.");
    visit("seed", options.seed, "The same seed repeats the same text.");
  }

  bool operator==(const SamplerOptions&) const = default;
};

/// Throws `Error` naming the field, its value and the allowed ones.
void validate(const SamplerOptions& options);

} // namespace moe
