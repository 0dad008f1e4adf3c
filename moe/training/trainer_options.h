#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "moe/option_table.h"

namespace moe {

/// How the learning rate goes after its warm-up; see `learning_rate`.
enum class LearningRateSchedule { cosine, linear, constant, wsd };
template <>
inline constexpr std::array<std::string_view, 4> enum_names<LearningRateSchedule>{
    "cosine", "linear", "constant", "wsd"};

/// What a loss or gradient that is not finite does to a run.
enum class OnNonFinite { stop, skip };
template <>
inline constexpr std::array<std::string_view, 2> enum_names<OnNonFinite>{"stop", "skip"};

/// What experts that die or a router that saturates do to a run.
enum class OnCollapse {
  warn,
  rebalance, ///< dead experts are revived from the busiest ones
  stop,
};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<OnCollapse>{
    "warn", "rebalance", "stop"};

/// How far a selection bias moves each step.
enum class SelectionBiasUpdate {
  sign,         ///< by the whole rate
  proportional, ///< by the rate times the distance from the mean load as a share of it
};
template <>
inline constexpr std::array<std::string_view, 2> enum_names<SelectionBiasUpdate>{
    "sign", "proportional"};

/// One training run: what it reads, how long and how it learns, what it writes. Recorded in the
/// run's `config.toml`.
///
/// `option_table<TrainerOptions>()` says of each field what it does: flag, TOML key, help and
/// range follow from its row.
struct TrainerOptions {
  std::vector<std::string> data;
  std::vector<std::string> mix;
  std::vector<std::string> val_data;
  std::string tokenizer = "bpe:8192";
  std::string from;
  std::vector<std::string> freeze;
  std::vector<std::string> only;
  int64_t lora_rank = 0;
  double lora_alpha = 0.0;
  std::vector<std::string> lora_targets;
  std::string chat_format;
  bool document_mask = false;

  int64_t steps = 1000;
  int64_t batch_size = 8;
  int64_t sequence_length = 256;
  int64_t accumulation_steps = 1;
  int64_t seed = 0;

  double lr = 1e-3;
  LearningRateSchedule schedule = LearningRateSchedule::cosine;
  int64_t warmup_steps = 50;
  int64_t decay_steps = 0;
  double min_lr_ratio = 0.1;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double max_grad_norm = 1.0;
  OnNonFinite on_nonfinite = OnNonFinite::stop;
  OnCollapse on_collapse = OnCollapse::warn;

  double router_lr_ratio = 1.0;
  double router_weight_decay_ratio = 1.0;
  double load_balancing_weight = 0.01;
  double global_balancing_weight = 0.0;
  double sequence_balancing_weight = 0.0;
  double pooled_balancing_weight = 0.0;
  double device_balancing_weight = 0.0;
  double communication_balancing_weight = 0.0;
  int64_t balancing_devices = 0;
  double importance_weight = 0.0;
  double router_z_weight = 0.001;
  double selection_bias_rate = 0.001;
  SelectionBiasUpdate selection_bias_update = SelectionBiasUpdate::sign;
  bool selection_bias_centered = false;

  std::string device = "cpu";
  std::string dtype = "auto";
  int64_t threads = 0;
  bool recompute = false;

  int64_t eval_every = 100;
  int64_t eval_tokens = 65536;
  int64_t checkpoint_every = 500;
  int64_t keep_checkpoints = 2;
  int64_t log_every = 10;

  bool operator==(const TrainerOptions&) const = default;
};

template <>
const OptionTable<TrainerOptions>& option_table<TrainerOptions>();

/// Throws `Error` naming the field, its value and the allowed ones.
void validate(const TrainerOptions& options);

} // namespace moe
