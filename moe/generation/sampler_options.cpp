#include "moe/generation/sampler_options.h"

#include "moe/option_checks_internal.h"

namespace moe {
namespace {

OptionTable<SamplerOptions> sampler_rows() {
  using Options = SamplerOptions;
  using enum OptionRange;
  return {
      option(
          "max_new_tokens",
          &Options::max_new_tokens,
          "Tokens to write at most.",
          {.range = at_least_1}),
      option(
          "temperature",
          &Options::temperature,
          "Divides the logits; 0 always takes the most likely token.",
          {.range = at_least_0}),
      option(
          "top_k",
          &Options::top_k,
          "Keep the k most likely tokens; 0 keeps all.",
          {.range = at_least_0}),
      option(
          "top_p",
          &Options::top_p,
          "Keep the most likely tokens that reach this probability; 1 keeps all.",
          {.range = above_0_to_1}),
      option(
          "min_p",
          &Options::min_p,
          "Drop tokens less likely than this share of the most likely one; 0 drops none.",
          {.range = from_0_to_1}),
      option(
          "repetition_penalty",
          &Options::repetition_penalty,
          "Divides positive and multiplies negative logits of tokens seen; 1 for none.",
          {.range = above_0}),
      option("stop", &Options::stop, "End before this text; repeatable."),
      option(
          "ignore_end_of_text",
          &Options::ignore_end_of_text,
          "Go on after the end-of-text token."),
      option(
          "seed",
          &Options::seed,
          "The same seed repeats the same text.",
          {.range = at_least_0}),
  };
}

} // namespace

template <>
const OptionTable<SamplerOptions>& option_table<SamplerOptions>() {
  static const auto table = sampler_rows();
  return table;
}

void validate(const SamplerOptions& options) {
  const auto problem = range_problem(options);
  check(problem.empty(), problem);
  for (const std::string& text : options.stop) {
    check_option(!text.empty(), "stop", "''", "a text of at least one character");
  }
}

} // namespace moe
