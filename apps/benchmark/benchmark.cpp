#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string>
#include <vector>

#include "apps/benchmark/block_suites.h"
#include "apps/benchmark/generation_suites.h"
#include "apps/benchmark/memory_suites.h"
#include "apps/benchmark/suites.h"
#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/json_output.h"
#include "apps/libtorch_support.h"
#include "apps/output.h"
#include "apps/process.h"
#include "apps/status_line.h"
#include "moe/decoder/device.h"
#include "moe/training/compute_dtype.h"

namespace {

using namespace moe;

struct Arguments {
  std::vector<std::string> suite;
  std::vector<std::string> workload;
  std::string dtype = "float32";
  std::string device = "cpu";
  std::vector<std::string> weights;
  std::string text;
  int64_t steps = 5;
  int64_t threads = 0;
  bool profile = false;
  bool json = false;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  line.add_flag(
      "suite",
      &arguments.suite,
      "What to measure: train, prefill, decode, block, experts, optimizer, memory, context, "
      "tokenizer; "
      "repeatable. The first two if not given.",
      "Benchmark");
  line.add_flag(
      "workload",
      &arguments.workload,
      "Shapes to measure: tiny, fine, coarse, mini; repeatable. tiny and fine if not given.",
      "Benchmark");
  line.add_flag(
      "dtype",
      &arguments.dtype,
      "Type of computation of train, block and the profile: float32, bfloat16, or auto as in "
      "moe-train.",
      "Benchmark");
  line.add_flag(
      "device", &arguments.device, "cpu, or cuda for the suite block alone.", "Benchmark");
  line.add_flag(
      "weights",
      &arguments.weights,
      "Weights of prefill and decode: float32, bfloat16, int8; repeatable. All if not given.",
      "Benchmark");
  line.add_flag(
      "text", &arguments.text, "Text for the tokenizer: a file, folder or JSONL.", "Benchmark");
  line.add_flag("steps", &arguments.steps, "How often what is measured is timed.", "Benchmark");
  line.add_flag(
      "threads",
      &arguments.threads,
      "Threads of computation; 0 means one per core.",
      "Benchmark");
  line.add_flag(
      "profile",
      &arguments.profile,
      "Say where the time of a training step goes, part by part.",
      "Benchmark");
  line.add_flag("json", &arguments.json, "Print one JSON object.", "Output");
  line.set_footer(
      "Example:\n  moe-benchmark --suite train --workload fine\n\n"
      "Machines differ and are shared: compare shares of what the same run measured.");
}

void check_names(
    const char* flag,
    const std::vector<std::string>& names,
    const std::vector<std::string>& known) {
  for (const auto& name : names) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      throw UsageError(
          fmt::format("{}: '{}' is not one of {}", flag, name, fmt::join(known, ", ")));
    }
  }
}

void complete(Arguments& arguments) {
  check_names(
      "--suite",
      arguments.suite,
      {"train",
       "prefill",
       "decode",
       "block",
       "experts",
       "optimizer",
       "memory",
       "context",
       "tokenizer"});
  check_names("--workload", arguments.workload, {"tiny", "fine", "coarse", "mini"});
  if (arguments.suite.empty() && !arguments.profile) {
    arguments.suite = {"train", "prefill", "decode"};
    if (!arguments.text.empty()) {
      arguments.suite.push_back("tokenizer");
    }
  }
  check_names("--weights", arguments.weights, {"float32", "bfloat16", "int8"});
  if (arguments.weights.empty()) {
    arguments.weights = {"float32", "bfloat16", "int8"};
  }
  if (arguments.workload.empty()) {
    arguments.workload = {"tiny", "fine"};
  }
  if (arguments.device != "cpu" &&
      (arguments.profile || arguments.suite != std::vector<std::string>{"block"})) {
    throw UsageError("--device: only the suite block runs on another device than the cpu");
  }
  find_device(arguments.device); // before the machine is measured
  arguments.dtype = resolve_dtype(arguments.dtype, arguments.device);
  find_dtype(arguments.dtype);
  if (arguments.steps < 1) {
    throw UsageError(fmt::format("--steps: {} is not possible; at least 1", arguments.steps));
  }
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void append(std::vector<Measurement>& results, std::vector<Measurement> more) {
  results.insert(results.end(), more.begin(), more.end());
}

std::vector<Measurement> measure(
    const Arguments& arguments, const Machine& machine, StatusLine& status) {
  const auto note = [&](const std::string& text) { status.log_line(text); };
  std::vector<Measurement> results;
  for (const auto& work : workloads()) {
    if (!contains(arguments.workload, work.name)) {
      continue;
    }
    if (contains(arguments.suite, "train")) {
      append(results, measure_training(work, arguments.dtype, arguments.steps, machine, note));
    }
    for (const auto& name : arguments.weights) {
      const auto weights = weight_type_from_name(name);
      if (contains(arguments.suite, "prefill")) {
        append(results, measure_prefill(work, weights, note));
      }
      if (contains(arguments.suite, "decode")) {
        append(results, measure_decode(work, weights, machine, note));
      }
    }
    if (contains(arguments.suite, "block")) {
      append(
          results,
          measure_block(
              work, arguments.steps, find_device(arguments.device), arguments.dtype, note));
    }
    if (arguments.profile) {
      append(results, measure_profile(work, arguments.dtype, arguments.steps, note));
    }
    if (contains(arguments.suite, "memory")) {
      append(results, measure_memory(work, arguments.steps, note));
    }
    if (contains(arguments.suite, "context")) {
      append(results, measure_context(work, arguments.steps, note));
    }
    if (contains(arguments.suite, "optimizer")) {
      append(results, measure_optimizer(work, arguments.steps, machine, note));
    }
  }
  if (contains(arguments.suite, "experts")) {
    append(results, measure_experts(arguments.steps, note));
  }
  if (contains(arguments.suite, "tokenizer")) {
    if (arguments.text.empty()) {
      throw UsageError("--text: the tokenizer needs a text to be measured on");
    }
    append(results, measure_tokenizer(arguments.text, note));
  }
  return results;
}

std::string results_json(const Machine& machine, const std::vector<Measurement>& results) {
  nlohmann::ordered_json object;
  nlohmann::ordered_json read_rates;
  for (const auto& level : machine.read_levels) {
    read_rates[level.name] = level.gb_per_s;
  }
  object["machine"] = {
      {"cpu", machine.cpu},
      {"threads", machine.threads},
      {"matmul_gflops", machine.matmul_gflops},
      {"read_gb_per_s", read_rates},
      {"copy_gb_per_s", machine.copy_gb_per_s}};
  object["results"] = nlohmann::ordered_json::array();
  for (const auto& result : results) {
    object["results"].push_back(
        {{"suite", result.suite},
         {"case", result.workload},
         {"dtype", result.dtype},
         {"metric", result.metric},
         {"value", result.value},
         {"unit", result.unit}});
  }
  return json_line(object);
}

std::string results_table(const Machine& machine, const std::vector<Measurement>& results) {
  std::string table = fmt::format(
      "{}, {} threads: at::mm {:.0f} GFLOP/s; {:.1f} GB/s copied; GB/s read:",
      machine.cpu,
      machine.threads,
      machine.matmul_gflops,
      machine.copy_gb_per_s);
  for (const auto& level : machine.read_levels) {
    table += fmt::format(" {} {:.0f}", level.name, level.gb_per_s);
  }
  table += "\n";
  for (const auto& result : results) {
    const bool bytes = result.unit == "bytes";
    table += fmt::format(
        "{:<10} {:<15} {:<9} {:<22} {:>12.{}f} {}\n",
        result.suite,
        result.workload,
        result.dtype,
        result.metric,
        bytes ? result.value / 1e6 : result.value,
        result.value < 10.0 ? 3 : 1,
        bytes ? "MB" : result.unit);
  }
  return table;
}

int benchmark(int argc, char** argv) {
  Arguments arguments;
  CommandLine line("moe-benchmark", "Measures speed against the machine's.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  complete(arguments);
  prepare_process();
  StatusLine status;
  status.log("measuring the machine");
  const auto machine = measure_machine(use_threads(arguments.threads));
  const auto results = measure(arguments, machine, status);
  write_stdout(
      arguments.json ? results_json(machine, results) : results_table(machine, results));
  return exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-benchmark", [&] { return benchmark(argc, argv); }, moe::describe_libtorch_error);
}
