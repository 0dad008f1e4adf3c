#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "apps/command_line.h"
#include "apps/encoded_texts.h"
#include "apps/exit_code.h"
#include "apps/json_output.h"
#include "apps/libtorch_support.h"
#include "apps/model_arguments.h"
#include "apps/report/page.h"
#include "apps/report/report_data.h"
#include "apps/status_line.h"
#include "moe/checkpoint/model_files.h"
#include "moe/checkpoint/run_folder.h"
#include "moe/error.h"
#include "moe/evaluation/model_costs.h"
#include "moe/evaluation/record_routing.h"
#include "moe/files/atomic_file.h"

namespace {

using namespace moe;

// Of models with long contexts: a piece is a unit of evidence, and many say more than few.
constexpr int64_t kLongestPiece = 512;

struct Arguments {
  ModelArguments model;
  std::vector<std::string> data;
  int64_t tokens = 8192;
  int64_t piece_length = 0;
  int64_t batch_size = 8;
  ReportSettings settings;
  std::string out = "report.html";
  std::string json;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  add_model_arguments(line, arguments.model);
  line.add_flag(
      "data",
      &arguments.data,
      "Text of one domain as NAME=PATH: a file, a folder or JSONL; repeatable.",
      "Data");
  line.add_flag(
      "tokens",
      &arguments.tokens,
      "Tokens per domain at most, in pieces of as many documents as possible.",
      "Data");
  line.add_flag(
      "piece_length",
      &arguments.piece_length,
      "Tokens per piece; 0 means the model's context length, 512 at most.",
      "Data");
  line.add_flag("batch_size", &arguments.batch_size, "Pieces per forward pass.", "Data");
  line.add_flag(
      "shuffles",
      &arguments.settings.shuffles,
      "How often domains are dealt out by chance, to see what chance does.",
      "Figures");
  line.add_flag(
      "min_occurrences",
      &arguments.settings.min_occurrences,
      "Times that a token must occur to be called an expert's favourite.",
      "Figures");
  line.add_flag(
      "seed", &arguments.settings.seed, "Chooses the pieces and the shuffles.", "Figures");
  line.add_flag("out", &arguments.out, "The page.", "Output");
  line.add_flag("json", &arguments.json, "A file for the same numbers as JSON.", "Output");
  line.set_footer(
      "Examples:\n"
      "  moe-report runs/demo --data en=corpus/en-heldout --data de=corpus/de-heldout\n"
      "  moe-report OLMoE-1B-7B --data law=law.jsonl --data code=src --tokens 2000 --out "
      "o.html\n\n"
      "The page needs no network and a few megabytes at most. Of a run it shows the training, "
      "too.");
}

void check_arguments(const Arguments& arguments) {
  if (arguments.data.empty()) {
    throw UsageError("--data NAME=PATH: no text is given; once for each domain");
  }
  const auto at_least = [](const char* flag, int64_t value, int64_t least) {
    if (value < least) {
      throw UsageError(fmt::format("{}: {} is not possible; at least {}", flag, value, least));
    }
  };
  at_least("--tokens", arguments.tokens, 1);
  at_least("--piece-length", arguments.piece_length, 0);
  at_least("--batch-size", arguments.batch_size, 1);
  at_least("--shuffles", arguments.settings.shuffles, 1);
  at_least("--min-occurrences", arguments.settings.min_occurrences, 1);
}

RoutingRecord record_data(const Arguments& arguments, const LoadedModel& loaded) {
  const auto tokenizer = Tokenizer::load(loaded.folder);
  const EncodedTexts texts(arguments.data, tokenizer, loaded.folder);
  std::vector<RecordedDomain> domains;
  for (const auto& [name, tokens, replies] : texts.domains()) {
    domains.push_back({name, tokens});
  }
  return record_routing(
      loaded.model,
      domains,
      {.max_tokens = arguments.tokens,
       .piece_length = arguments.settings.piece_length,
       .batch_size = arguments.batch_size,
       .seed = arguments.settings.seed});
}

ReportModel describe_model(const Arguments& arguments, const LoadedModel& loaded, bool is_run) {
  const auto& options = loaded.model->options;
  const auto parameters = count_parameters(options);
  ReportModel model;
  model.name = arguments.model.folder;
  if (is_run) {
    model.checkpoint = std::filesystem::canonical(loaded.folder).filename().string();
  }
  const ModelFiles files(loaded.folder);
  model.architecture = files.config().family;
  model.routing = describe_routing(options);
  model.layers = options.num_layers;
  model.parameters = parameters.total;
  model.active_parameters = parameters.active;
  return model;
}

/// What a run has recorded of its training.
std::optional<TrainingHistory> find_history(const RunFolder& run) {
  std::error_code ignored;
  if (!run.exists() || !std::filesystem::is_regular_file(run.metrics(), ignored)) {
    return std::nullopt;
  }
  auto history = read_training_history(run.metrics());
  if (history.unreadable > 0) {
    StatusLine().log(
        "warning: {}: {} lines are no records of steps and are left out",
        run.metrics().string(),
        history.unreadable);
  }
  return history.steps.empty() ? std::nullopt : std::optional(std::move(history));
}

int report(int argc, char** argv) {
  Arguments arguments;
  CommandLine line(
      "moe-report", "Shows what a model's experts do, as one web page.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  check_arguments(arguments);
  const auto loaded = load_model(arguments.model);
  const int64_t context = loaded.model->options.context_length;
  arguments.settings.piece_length =
      arguments.piece_length > 0 ? arguments.piece_length : std::min(context, kLongestPiece);
  const RunFolder run(arguments.model.folder);
  const auto data = report_data(
      describe_model(arguments, loaded, run.exists()),
      record_data(arguments, loaded),
      Tokenizer::load(loaded.folder),
      find_history(run),
      arguments.settings);
  if (!arguments.json.empty()) {
    write_file_atomically(arguments.json, json_line(data));
  }
  write_file_atomically(arguments.out, report_page(data));
  return exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-report", [&] { return report(argc, argv); }, moe::describe_libtorch_error);
}
