#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/libtorch_support.h"
#include "apps/process.h"
#include "apps/progress.h"
#include "apps/resume_options.h"
#include "apps/signals.h"
#include "moe/checkpoint/model_files.h"
#include "moe/decoder/device.h"
#include "moe/decoder/router_presets.h"
#include "moe/training/compute_dtype.h"
#include "moe/training/training_run.h"

using namespace moe;

namespace {

/// Where options of routing that are not given come from.
struct RouterChoice {
  std::string router;
};

} // namespace

template <>
const OptionTable<RouterChoice>& moe::option_table<RouterChoice>() {
  static const OptionTable<RouterChoice> table = {option(
      "router",
      &RouterChoice::router,
      "Route as this does: " + router_preset_names() +
          "; options of routing that are given, too, win over it. Empty for the options "
          "alone.")};
  return table;
}

namespace {

struct Arguments {
  RouterChoice router;
  DecoderOptions model;
  TrainerOptions training;
  std::string out;
  int64_t stop_after = 0;
  bool resume = false;
  bool overwrite = false;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  line.add_flag("out", &arguments.out, "Folder of the run.", "Run");
  line.add_flag("resume", &arguments.resume, "Go on with the run in --out.", "Run");
  line.add_flag("overwrite", &arguments.overwrite, "Remove the run in --out first.", "Run");
  line.add_flag(
      "stop_after",
      &arguments.stop_after,
      "Save and stop after this step; 0 for the last.",
      "Run");
  line.add_options(arguments.training, training_groups());
  line.add_options(arguments.router, {{"router", "Routing by name"}});
  line.add_options(arguments.model, model_groups());
  line.add_config();
  line.set_footer(
      "Examples:\n"
      "  moe-train --config models/nano.toml --data en=corpus/en --out runs/nano\n"
      "  moe-train --from OLMoE-1B-7B --data mail --out runs/mail --freeze router --lr 1e-5\n\n"
      "The first SIGINT or SIGTERM finishes the step, saves and ends with 130 or 143; a "
      "second\n"
      "one ends at once. --resume goes on with either.");
}

/// Makes sure that the folder is free, or holds the run to go on with.
void check_out(const Arguments& arguments) {
  if (arguments.out.empty()) {
    throw UsageError("--out: no folder is given for the run");
  }
  if (arguments.resume && arguments.overwrite) {
    throw UsageError("--resume and --overwrite exclude each other");
  }
  std::error_code ignored;
  if (std::filesystem::exists(arguments.out, ignored) &&
      !std::filesystem::is_directory(arguments.out, ignored)) {
    throw UsageError("--out: " + arguments.out + " is a file; name a folder for the run");
  }
  const RunFolder folder(arguments.out);
  if (arguments.resume && !folder.exists()) {
    throw UsageError("--resume: there is no run in " + arguments.out);
  }
  if (!arguments.resume && !arguments.overwrite && folder.exists()) {
    throw UsageError(
        "--out: " + arguments.out + " already holds a run; --resume goes on with it, " +
        "--overwrite removes it");
  }
}

void check_stop(const Arguments& arguments) {
  if (arguments.stop_after < 0) {
    throw UsageError(fmt::format(
        "--stop-after: {} is not possible; a step, or 0 for the last", arguments.stop_after));
  }
}

void check_data(const Arguments& arguments) {
  if (arguments.training.data.empty()) {
    throw UsageError("--data: no training text is given; --data NAME=PATH");
  }
}

/// Copies the options of `from` to those of `to` for which `takes(row)`.
template <class Options, class Takes>
void copy_options(const Options& from, Options& to, const Takes& takes) {
  for (const auto& row : option_table<Options>()) {
    if (takes(row)) {
      row.write(to, row.read(from));
    }
  }
}

/// With --router, its preset, but for what is given by a flag, or in the file that names it.
void take_router_preset(const CommandLine& line, Arguments& arguments) {
  const auto& name = arguments.router.router;
  if (name.empty()) {
    return;
  }
  const auto& preset = find_router_preset(name);
  const bool has_model = !arguments.training.from.empty();
  if (has_model && line.source("router") == OptionSource::command_line) {
    throw UsageError("--router and --from exclude each other: the model has its own");
  }
  const auto is_open = [&](const auto& row) {
    return line.source(row.key) < line.source("router");
  };
  copy_options(with_router_preset(arguments.model, name), arguments.model, is_open);
  auto training = arguments.training;
  training.load_balancing_weight =
      preset.load_balancing_weight.value_or(training.load_balancing_weight);
  training.router_z_weight = preset.router_z_weight.value_or(training.router_z_weight);
  copy_options(training, arguments.training, is_open);
}

/// With --from, the model and the tokenizer are those of the folder, but for how it trains.
void take_model_from_folder(const CommandLine& line, Arguments& arguments) {
  auto& from = arguments.training.from;
  if (from.empty() || arguments.resume) {
    return;
  }
  const auto folder = find_model_folder(from).folder;
  const ModelFiles files(folder);
  const auto& saved = files.config().options;
  for (const auto& row : option_table<DecoderOptions>()) {
    const auto given = row.read(arguments.model);
    const auto has = row.read(saved);
    if (line.given(row.key) && given != has && !row.traits.training_only) {
      throw UsageError(fmt::format(
          "{}: {} is not possible with --from; the model in {} has {}",
          row.key,
          to_toml(given),
          from,
          to_toml(has)));
    }
  }
  const auto& tokenizer = arguments.training.tokenizer;
  if (line.given("tokenizer") && tokenizer != folder.string()) {
    throw UsageError(
        line.given_as("tokenizer") + " and --from exclude each other: the model has its own");
  }
  const auto wanted = arguments.model;
  arguments.model = saved;
  copy_options(wanted, arguments.model, [&](const auto& row) {
    return line.given(row.key) && row.traits.training_only;
  });
  arguments.training.tokenizer = folder.string();
}

/// Options of routing without the one that they refine are a mistake.
void check_routing_options(const CommandLine& line, const DecoderOptions& model) {
  const DecoderOptions defaults;
  if (line.given("router_groups") && model.router.groups != defaults.router.groups &&
      !selects_by_groups(model.router)) {
    throw UsageError(fmt::format(
        "{}: {} needs router_selection groups_by_max or groups_by_top2, not {}",
        line.given_as("router_groups"),
        model.router.groups,
        enum_name(model.router.selection)));
  }
  if (line.given("capacity_drop") &&
      model.router.capacity_drop != defaults.router.capacity_drop &&
      model.router.capacity_factor == 0.0) {
    throw UsageError(fmt::format(
        "{}: {} needs a capacity_factor above 0",
        line.given_as("capacity_drop"),
        enum_name(model.router.capacity_drop)));
  }
}

/// New experts are for the new text: a balancing loss would draw its tokens to the old ones.
void leave_balance_alone(const CommandLine& line, TrainerOptions& training) {
  const auto& only = training.only;
  if (std::find(only.begin(), only.end(), "new-experts") == only.end()) {
    return;
  }
  if (!line.given("load_balancing_weight")) {
    training.load_balancing_weight = 0.0;
  }
  if (!line.given("router_z_weight")) {
    training.router_z_weight = 0.0;
  }
  if (!line.given("selection_bias_rate")) {
    training.selection_bias_rate = 0.0;
  }
}

std::optional<double> largest_violation(const StepMetrics& metrics) {
  std::optional<double> largest;
  for (const auto& layer : metrics.moe) {
    largest = std::max(largest.value_or(layer.max_violation), layer.max_violation);
  }
  return largest;
}

int64_t dead_experts(const StepMetrics& metrics) {
  double dead = 0.0;
  for (const auto& layer : metrics.moe) {
    dead += std::round(layer.dead * static_cast<double>(layer.load.size()));
  }
  return static_cast<int64_t>(dead);
}

double largest_dropped_share(const StepMetrics& metrics) {
  double largest = 0.0;
  for (const auto& layer : metrics.moe) {
    largest = std::max(largest, layer.dropped);
  }
  return largest;
}

TrainingCallbacks callbacks(
    const TrainerOptions& options, StatusLine& status, std::optional<Progress>& progress) {
  TrainingCallbacks result;
  result.log = [&status](const std::string& text) { status.log_line(text); };
  result.on_step = [&](const StepMetrics& metrics) {
    if (!progress) {
      progress.emplace(status, metrics.step, options.steps, options.log_every);
    }
    progress->update(
        {.step = metrics.step,
         .loss = metrics.loss,
         .tokens_per_s = metrics.tokens_per_s,
         .max_violation = largest_violation(metrics),
         .dead_experts = dead_experts(metrics),
         .dropped = largest_dropped_share(metrics)});
    if (metrics.val_loss) {
      status.log("step {}: validation loss {:.4f}", metrics.step, *metrics.val_loss);
    }
  };
  result.should_stop = [] { return stop_signal() != 0; };
  return result;
}

void log_model(StatusLine& status, const DecoderOptions& model) {
  const auto count = count_parameters(model);
  status.log(
      "model: {:.2f}M parameters, {:.2f}M active per token",
      static_cast<double>(count.total) / 1e6,
      static_cast<double>(count.active) / 1e6);
}

void log_dtype(StatusLine& status, const TrainerOptions& options) {
  status.log("computing in {}", options.dtype);
  const auto warning = dtype_warning(options.dtype, options.device);
  if (!warning.empty()) {
    status.log("warning: {}", warning);
  }
}

int train(int argc, char** argv) {
  Arguments arguments;
  CommandLine line(
      "moe-train", "Trains a mixture-of-experts language model.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  check_stop(arguments);
  if (arguments.resume) {
    check_out(arguments);
    resume_options(line, RunFolder(arguments.out).config().string());
  }
  take_router_preset(line, arguments);
  take_model_from_folder(line, arguments);
  leave_balance_alone(line, arguments.training);
  if (!arguments.resume) {
    check_routing_options(line, arguments.model);
  }
  line.print_config_if_asked();
  check_out(arguments);
  check_data(arguments);
  prepare_process();
  install_stop_signals();
  StatusLine status;
  std::optional<Progress> progress;
  use_threads(arguments.training.threads);
  status.log("{}", libtorch_details());
  // Recorded as what it stands for, so that the run goes on in it anywhere.
  arguments.training.dtype = resolve_dtype(arguments.training.dtype, arguments.training.device);
  TrainingRun run(
      arguments.out,
      arguments.model,
      arguments.training,
      line.config_text(),
      arguments.resume,
      callbacks(arguments.training, status, progress));
  log_model(status, run.trainer().model()->options);
  log_dtype(status, arguments.training);
  const int64_t end = std::min(
      arguments.stop_after > 0 ? arguments.stop_after : arguments.training.steps,
      arguments.training.steps);
  if (arguments.resume && run.trainer().steps_done() >= end) {
    status.log("already at step {}; nothing to do", run.trainer().steps_done());
    return exit_success;
  }
  const bool finished = run.train(end);
  if (progress) {
    progress->finish();
  }
  status.log(
      "{} step {} in {}",
      finished ? "finished: saved" : "stopped: saved",
      run.trainer().steps_done(),
      arguments.out);
  return stop_signal() != 0 && !finished ? signal_exit_code(stop_signal()) : exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-train", [&] { return train(argc, argv); }, moe::describe_libtorch_error);
}
