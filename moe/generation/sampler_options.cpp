#include "moe/generation/sampler_options.h"

#include "moe/option_checks_internal.h"

namespace moe {

void validate(const SamplerOptions& options) {
  check_at_least(1, "max_new_tokens", options.max_new_tokens);
  check_number_not_negative("temperature", options.temperature);
  check_at_least(0, "top_k", options.top_k);
  check_option(
      options.top_p > 0.0 && options.top_p <= 1.0, "top_p", options.top_p, "above 0, up to 1");
  check_option(options.min_p >= 0.0 && options.min_p <= 1.0, "min_p", options.min_p, "0 to 1");
  check_number_above_zero("repetition_penalty", options.repetition_penalty);
  for (const std::string& text : options.stop) {
    check_option(!text.empty(), "stop", "''", "a text of at least one character");
  }
  check_at_least(0, "seed", options.seed);
}

} // namespace moe
