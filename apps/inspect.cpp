#include <fmt/format.h>
#include <fmt/ranges.h>

#include <map>
#include <string>
#include <vector>

#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/json_output.h"
#include "apps/libtorch_support.h"
#include "apps/model_arguments.h"
#include "apps/output.h"
#include "apps/status_line.h"
#include "moe/checkpoint/model_files.h"
#include "moe/checkpoint/run_folder.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/error.h"
#include "moe/evaluation/model_costs.h"
#include "moe/evaluation/trace.h"

namespace {

using namespace moe;

struct Arguments {
  ModelArguments model;
  bool tensors = false;
  std::string input_ids;
  std::string out;
  bool json = false;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  add_model_arguments(line, arguments.model);
  line.add_flag("tensors", &arguments.tensors, "List the tensors of the files.", "Output");
  line.add_flag(
      "input_ids",
      &arguments.input_ids,
      "A safetensors file with input_ids, int64 [B, S]: run the model on them.",
      "Trace");
  line.add_flag(
      "out",
      &arguments.out,
      "Where logits, hidden_states.N, router_logits.N, experts.N and weights.N go.",
      "Trace");
  line.add_flag("json", &arguments.json, "Print one JSON object.", "Output");
  line.set_footer(
      "Examples:\n"
      "  moe-inspect runs/demo\n"
      "  moe-inspect OLMoE-1B-7B --tensors\n"
      "  moe-inspect FOLDER --input-ids ids.safetensors --out activations.safetensors\n\n"
      "Weights are read only with --input-ids.");
}

void check_arguments(const Arguments& arguments) {
  if (arguments.input_ids.empty() != arguments.out.empty()) {
    throw UsageError("--input-ids and --out: one without the other is not possible");
  }
}

/// What generation costs with so many tokens in view.
struct ContextCost {
  int64_t length = 0;
  int64_t cache_bytes = 0; ///< keys and values in float32; weights of another type halve them
  int64_t operations = 0;  ///< of one token
};

/// Everything that is printed.
struct Report {
  std::string folder;
  ReadConfig config;
  ParameterCount parameters;
  std::map<std::string, int64_t> bytes_by_type;
  std::vector<ContextCost> contexts;
  std::vector<TensorEntry> tensors;
};

/// A quarter of the longest context each time, down to a few hundred tokens.
std::vector<int64_t> context_lengths(int64_t longest) {
  std::vector<int64_t> lengths = {longest};
  while (lengths.front() >= 1024) {
    lengths.insert(lengths.begin(), lengths.front() / 4);
  }
  return lengths;
}

Report make_report(const ModelFiles& files) {
  Report report;
  report.folder = files.folder().string();
  report.config = files.config();
  const auto& options = report.config.options;
  report.parameters = count_parameters(options);
  for (const auto& file : files.weights().files()) {
    for (const auto& tensor : file->tensors()) {
      const std::string type(element_type_name(tensor.type));
      report.bytes_by_type[type] += static_cast<int64_t>(tensor.bytes.size());
      report.tensors.push_back(tensor);
    }
  }
  for (const int64_t length : context_lengths(options.context_length)) {
    report.contexts.push_back(
        {length,
         cache_elements(options, length) * static_cast<int64_t>(sizeof(float)),
         token_operations(options, length)});
  }
  return report;
}

int64_t total_bytes(const Report& report) {
  int64_t bytes = 0;
  for (const auto& [type, part] : report.bytes_by_type) {
    bytes += part;
  }
  return bytes;
}

/// 1234567 as "1.23 M"; `base` 1000 for counts.
std::string short_number(int64_t value) {
  static const char* const kUnits[] = {"", " k", " M", " G", " T", " P"};
  auto number = static_cast<double>(value);
  size_t unit = 0;
  for (; number >= 1000.0 && unit + 1 < std::size(kUnits); ++unit) {
    number /= 1000.0;
  }
  return unit == 0 ? fmt::format("{}", value) : fmt::format("{:.3g}{}", number, kUnits[unit]);
}

std::string short_bytes(int64_t bytes) {
  const auto text = short_number(bytes);
  return bytes < 1000 ? text + " B" : text + "B";
}

std::string tensor_table(const Report& report) {
  std::string text = "\n";
  size_t width = 0;
  for (const auto& tensor : report.tensors) {
    width = std::max(width, tensor.name.size());
  }
  for (const auto& tensor : report.tensors) {
    text += fmt::format(
        "{:<{}}  {:<5} [{}]\n",
        tensor.name,
        width,
        element_type_name(tensor.type),
        fmt::join(tensor.shape, ", "));
  }
  return text;
}

std::string report_text(const Report& report, bool with_tensors) {
  const auto& options = report.config.options;
  std::vector<std::string> types;
  for (const auto& [type, bytes] : report.bytes_by_type) {
    types.push_back(fmt::format("{} {}", short_bytes(bytes), type));
  }
  std::string text;
  const auto line = [&text](const char* name, const std::string& value) {
    text += fmt::format("{:<13} {}\n", name, value);
  };
  line("architecture", report.config.family);
  line(
      "layers",
      fmt::format(
          "{}, {} with experts; width {}",
          options.num_layers,
          moe_layers(options).size(),
          options.model_dim));
  line("attention", describe_attention(options));
  line("routing", describe_routing(options));
  line("vocabulary", fmt::format("{}", options.vocab_size));
  line(
      "parameters",
      fmt::format(
          "{}, of which a token uses {}",
          short_number(report.parameters.total),
          short_number(report.parameters.active)));
  line(
      "weights",
      fmt::format("{} ({})", short_bytes(total_bytes(report)), fmt::join(types, ", ")));
  text += fmt::format("\n{:>9} {:>12} {:>16}\n", "context", "KV cache", "operations/token");
  for (const auto& cost : report.contexts) {
    text += fmt::format(
        "{:>9} {:>12} {:>16}\n",
        cost.length,
        short_bytes(cost.cache_bytes),
        short_number(cost.operations));
  }
  return with_tensors ? text + tensor_table(report) : text;
}

nlohmann::ordered_json report_json(const Report& report, bool with_tensors) {
  const auto& options = report.config.options;
  nlohmann::ordered_json result = {
      {"architecture", report.config.family},
      {"layers", options.num_layers},
      {"moe_layers", moe_layers(options).size()},
      {"parameters", report.parameters.total},
      {"active_parameters", report.parameters.active},
      {"weight_bytes", total_bytes(report)},
      {"weight_bytes_by_type", report.bytes_by_type},
      {"attention", describe_attention(options)},
      {"routing", describe_routing(options)}};
  for (const auto& cost : report.contexts) {
    result["contexts"].push_back(
        {{"length", cost.length},
         {"kv_cache_bytes", cost.cache_bytes},
         {"operations_per_token", cost.operations}});
  }
  auto& fields = result["options"];
  for (const auto& row : option_table<DecoderOptions>()) {
    std::visit([&](const auto& value) { fields[row.key] = value; }, row.read(options));
  }
  if (with_tensors) {
    result["tensors"] = nlohmann::ordered_json::array();
    for (const auto& tensor : report.tensors) {
      result["tensors"].push_back(
          {{"name", tensor.name},
           {"type", element_type_name(tensor.type)},
           {"shape", tensor.shape}});
    }
  }
  return result;
}

void print_report(const Arguments& arguments) {
  const auto found = find_model_folder(arguments.model.folder, arguments.model.checkpoint);
  const ModelFiles files(found.folder);
  StatusLine status;
  for (const auto& warning : found.warnings) {
    status.log("warning: {}", warning);
  }
  for (const auto& notice : files.config().notices) {
    status.log("note: {}", notice);
  }
  const auto report = make_report(files);
  write_stdout(
      arguments.json ? json_line(report_json(report, arguments.tensors))
                     : report_text(report, arguments.tensors));
}

void write_trace(const Arguments& arguments) {
  const auto inputs = read_state_dict(arguments.input_ids);
  const auto* ids = inputs.find("input_ids");
  check(ids != nullptr, arguments.input_ids, ": there is no tensor input_ids");
  const auto loaded = load_model(arguments.model);
  write_state_dict(trace_model(loaded.model, *ids), arguments.out);
}

int inspect(int argc, char** argv) {
  Arguments arguments;
  CommandLine line("moe-inspect", "Shows what a model is made of.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  check_arguments(arguments);
  if (arguments.input_ids.empty()) {
    print_report(arguments);
  } else {
    write_trace(arguments);
  }
  return exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-inspect", [&] { return inspect(argc, argv); }, moe::describe_libtorch_error);
}
