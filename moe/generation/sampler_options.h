#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/option_table.h"

namespace moe {

/// How the next token is chosen and when a text ends.
///
/// `option_table<SamplerOptions>()` says of each field what it does: flag, help and range
/// follow from its row.
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

  bool operator==(const SamplerOptions&) const = default;
};

template <>
const OptionTable<SamplerOptions>& option_table<SamplerOptions>();

/// Throws `Error` naming the field, its value and the allowed ones.
void validate(const SamplerOptions& options);

} // namespace moe
