#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace moe {

/// What `adapter_config.json` says about how a LoRA adapter of PEFT changes a model.
struct PeftLoraConfig {
  std::string file; ///< for messages
  int64_t rank = 0;
  double alpha = 0.0;
  /// Changes are scaled by alpha / sqrt(rank) instead of alpha / rank.
  bool rank_stabilized = false;
  /// Exceptions, by names of modules or parameters, or ends of such names.
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  /// Parameters, or ends of their names, that have an adapter without being part of a `Linear`.
  std::vector<std::string> target_parameters;
  /// Whether matrices of stacks [E, out, in] are changed by B · A: so since PEFT 0.19; before,
  /// as if they were [E, in, out].
  bool stacks_have_rows = false;
  /// True has no effect on `Linear`, and PEFT has no stacks with it.
  bool fan_in_fan_out = false;
};

/// Reads `adapter_config.json` in `folder`. Throws `Error` naming the file and the key for
/// everything that changes a model in a way that is not described here, keys that are not known
/// included.
PeftLoraConfig read_peft_lora_config(const std::filesystem::path& folder);

/// Whether a name is `pattern` or ends with a dot and `pattern`.
bool peft_name_matches(const std::string& name, const std::string& pattern);

/// The rank of the adapter of `name`, and what its change is multiplied by. Throw `Error` where
/// patterns contradict each other.
int64_t peft_rank(const PeftLoraConfig& config, const std::string& name);
double peft_scale(const PeftLoraConfig& config, const std::string& name);

} // namespace moe
