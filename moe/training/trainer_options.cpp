#include "moe/training/trainer_options.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <string_view>

#include "moe/option_checks_internal.h"
#include "moe/training/trainable_rows.h"

namespace moe {
namespace {

constexpr int64_t most_threads = 4096;

// Byte-level BPE starts from 256 bytes and the end-of-text token.
constexpr int64_t smallest_vocabulary = 257;

template <class Number>
bool parse_all(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// PATH or NAME=PATH.
void check_sources(const char* name, const std::vector<std::string>& sources) {
  for (const std::string& source : sources) {
    const size_t equals = source.find('=');
    const bool possible = !source.empty() && equals != 0 && equals != source.size() - 1;
    check_option(possible, name, "'" + source + "'", "PATH or NAME=PATH");
  }
}

void check_mix(const std::vector<std::string>& mix) {
  for (const std::string& entry : mix) {
    const size_t equals = entry.rfind('=');
    double weight = -1.0;
    const bool possible = equals != std::string::npos && equals > 0 &&
                          parse_all(std::string_view(entry).substr(equals + 1), weight) &&
                          std::isfinite(weight) && weight >= 0.0;
    check_option(possible, "mix", "'" + entry + "'", "NAME=WEIGHT with a weight of at least 0");
  }
}

void check_tokenizer(const std::string& tokenizer) {
  constexpr std::string_view allowed =
      "bytes, chars, bpe:SIZE with a size of at least 257, or the path of a tokenizer.json";
  int64_t size = 0;
  const bool possible = tokenizer.starts_with("bpe:")
                            ? parse_all(std::string_view(tokenizer).substr(4), size) &&
                                  size >= smallest_vocabulary
                            : !tokenizer.empty();
  check_option(possible, "tokenizer", "'" + tokenizer + "'", allowed);
}

void check_tokens(const TrainerOptions& options) {
  const int64_t most = std::numeric_limits<int64_t>::max() / options.steps /
                       options.sequence_length / options.accumulation_steps;
  check_option(
      options.batch_size <= most,
      "batch_size",
      options.batch_size,
      "so many tokens in all steps cannot be counted");
}

void check_schedule(const TrainerOptions& options) {
  check_option(
      options.schedule != LearningRateSchedule::wsd || options.decay_steps <= options.steps,
      "decay_steps",
      options.decay_steps,
      "0 to steps (" + std::to_string(options.steps) + ")");
}

void check_lora(const TrainerOptions& options) {
  for (const auto& target : options.lora_targets) {
    check_one_of(
        {"head", "attention", "router", "experts", "shared_expert", "feed_forward"},
        "lora_targets",
        target);
  }
  check_option(
      options.lora_rank > 0 || options.lora_targets.empty(),
      "lora_rank",
      options.lora_rank,
      "at least 1 beside lora_targets");
  check_option(
      options.lora_rank > 0 || options.lora_alpha == 0.0,
      "lora_rank",
      options.lora_rank,
      "at least 1 beside lora_alpha");
  check_option(
      options.lora_rank == 0 || (options.freeze.empty() && options.only.empty()),
      "lora_rank",
      options.lora_rank,
      "without freeze and only; lora_targets says what learns");
}

void check_devices(const TrainerOptions& options) {
  check_option(
      options.balancing_devices == 0 || options.device_balancing_weight > 0.0 ||
          options.communication_balancing_weight > 0.0,
      "balancing_devices",
      options.balancing_devices,
      "only with a device_balancing_weight or communication_balancing_weight");
}

// Rebalancing changes experts and rows of the router.
void check_rebalancing(const TrainerOptions& options) {
  const bool is_restricted =
      !options.only.empty() || options.lora_rank > 0 ||
      std::any_of(options.freeze.begin(), options.freeze.end(), [](const std::string& part) {
        return part.starts_with("experts") || part.starts_with("router");
      });
  check_option(
      options.on_collapse != OnCollapse::rebalance || !is_restricted,
      "on_collapse",
      "rebalance",
      "warn or stop where only some experts or routers learn (freeze, only, lora_rank)");
}

} // namespace

void validate(const TrainerOptions& options) {
  const auto problem = range_problem(options);
  check(problem.empty(), problem);
  check_sources("data", options.data);
  check_mix(options.mix);
  check_sources("val_data", options.val_data);
  check_tokenizer(options.tokenizer);
  check_tokens(options);
  check_schedule(options);
  check_parts(options.freeze, "freeze");
  check_parts(options.only, "only");
  check_lora(options);
  check_rebalancing(options);
  check_devices(options);
  check_option(
      options.threads >= 0 && options.threads <= most_threads,
      "threads",
      options.threads,
      "0 to " + std::to_string(most_threads));
}

} // namespace moe
