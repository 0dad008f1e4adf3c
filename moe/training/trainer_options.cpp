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

void check_sizes(const TrainerOptions& options) {
  check_at_least(1, "steps", options.steps);
  check_at_least(1, "batch_size", options.batch_size);
  check_at_least(1, "sequence_length", options.sequence_length);
  check_at_least(1, "accumulation_steps", options.accumulation_steps);
  check_at_least(0, "seed", options.seed);
  const int64_t most = std::numeric_limits<int64_t>::max() / options.steps /
                       options.sequence_length / options.accumulation_steps;
  check_option(
      options.batch_size <= most,
      "batch_size",
      options.batch_size,
      "so many tokens in all steps cannot be counted");
}

void check_learning(const TrainerOptions& options) {
  check_number_above_zero("lr", options.lr);
  check_one_of({"cosine", "linear", "constant", "wsd"}, "schedule", options.schedule);
  check_at_least(0, "warmup_steps", options.warmup_steps);
  const bool decays = options.schedule == "wsd";
  check_at_least(0, "decay_steps", options.decay_steps);
  check_option(
      !decays || options.decay_steps <= options.steps,
      "decay_steps",
      options.decay_steps,
      "0 to steps (" + std::to_string(options.steps) + ")");
  check_option(
      options.min_lr_ratio >= 0.0 && options.min_lr_ratio <= 1.0,
      "min_lr_ratio",
      options.min_lr_ratio,
      "0 to 1");
  check_number_not_negative("weight_decay", options.weight_decay);
  check_option(
      options.beta1 >= 0.0 && options.beta1 < 1.0, "beta1", options.beta1, "0 to below 1");
  check_option(
      options.beta2 >= 0.0 && options.beta2 < 1.0, "beta2", options.beta2, "0 to below 1");
  check_number_above_zero("epsilon", options.epsilon);
  check_number_not_negative("max_grad_norm", options.max_grad_norm);
  check_one_of({"stop", "skip"}, "on_nonfinite", options.on_nonfinite);
  check_one_of({"warn", "rebalance", "stop"}, "on_collapse", options.on_collapse);
}

void check_lora(const TrainerOptions& options) {
  check_at_least(0, "lora_rank", options.lora_rank);
  check_number_not_negative("lora_alpha", options.lora_alpha);
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

void check_routing(const TrainerOptions& options) {
  check_number_not_negative("router_lr_ratio", options.router_lr_ratio);
  check_number_not_negative("router_weight_decay_ratio", options.router_weight_decay_ratio);
  check_number_not_negative("load_balancing_weight", options.load_balancing_weight);
  check_number_not_negative("global_balancing_weight", options.global_balancing_weight);
  check_number_not_negative("sequence_balancing_weight", options.sequence_balancing_weight);
  check_number_not_negative("pooled_balancing_weight", options.pooled_balancing_weight);
  check_number_not_negative("device_balancing_weight", options.device_balancing_weight);
  check_number_not_negative(
      "communication_balancing_weight", options.communication_balancing_weight);
  check_at_least(0, "balancing_devices", options.balancing_devices);
  check_option(
      options.balancing_devices == 0 || options.device_balancing_weight > 0.0 ||
          options.communication_balancing_weight > 0.0,
      "balancing_devices",
      options.balancing_devices,
      "only with a device_balancing_weight or communication_balancing_weight");
  check_number_not_negative("importance_weight", options.importance_weight);
  check_number_not_negative("router_z_weight", options.router_z_weight);
  check_number_not_negative("selection_bias_rate", options.selection_bias_rate);
  check_one_of(
      {"sign", "proportional"}, "selection_bias_update", options.selection_bias_update);
}

// Rebalancing changes experts and rows of the router.
void check_rebalancing(const TrainerOptions& options) {
  const bool is_restricted =
      !options.only.empty() || options.lora_rank > 0 ||
      std::any_of(options.freeze.begin(), options.freeze.end(), [](const std::string& part) {
        return part.starts_with("experts") || part.starts_with("router");
      });
  check_option(
      options.on_collapse != "rebalance" || !is_restricted,
      "on_collapse",
      "rebalance",
      "warn or stop where only some experts or routers learn (freeze, only, lora_rank)");
}

} // namespace

void validate(const TrainerOptions& options) {
  check_sources("data", options.data);
  check_mix(options.mix);
  check_sources("val_data", options.val_data);
  check_tokenizer(options.tokenizer);
  check_sizes(options);
  check_learning(options);
  check_parts(options.freeze, "freeze");
  check_parts(options.only, "only");
  check_lora(options);
  check_rebalancing(options);
  check_routing(options);
  check_one_of({"cpu", "cuda"}, "device", options.device);
  check_one_of({"auto", "float32", "bfloat16"}, "dtype", options.dtype);
  check_option(
      options.threads >= 0 && options.threads <= most_threads,
      "threads",
      options.threads,
      "0 to " + std::to_string(most_threads));
  check_at_least(0, "eval_every", options.eval_every);
  check_at_least(1, "eval_tokens", options.eval_tokens);
  check_at_least(0, "checkpoint_every", options.checkpoint_every);
  check_at_least(1, "keep_checkpoints", options.keep_checkpoints);
  check_at_least(1, "log_every", options.log_every);
}

} // namespace moe
