#include "apps/edit_operation.h"

#include <fmt/format.h>

#include <algorithm>

#include "apps/encoded_texts.h"
#include "apps/exit_code.h"
#include "apps/model_arguments.h"
#include "apps/output.h"
#include "apps/process.h"
#include "moe/checkpoint/run_folder.h"
#include "moe/decoder/device.h"
#include "moe/evaluation/evaluator.h"
#include "moe/files/atomic_folder.h"

namespace moe {
namespace {

std::vector<std::pair<std::string, TextScore>> scores_of(
    const std::filesystem::path& folder, const EditArguments& arguments) {
  ModelArguments model_arguments;
  model_arguments.folder = folder.string();
  model_arguments.threads = arguments.threads;
  const auto loaded = load_model(model_arguments);
  const EncodedTexts texts(arguments.evaluate, Tokenizer::load(loaded.folder), loaded.folder);
  EvaluationCut cut;
  cut.sequence_length = loaded.model->options.context_length;
  cut.max_tokens = arguments.max_tokens;
  return evaluate(loaded.model, evaluation_domains(texts, cut)).domains;
}

std::string comparison(
    const std::vector<std::pair<std::string, TextScore>>& before,
    const std::vector<std::pair<std::string, TextScore>>& after) {
  std::string table =
      fmt::format("{:<12} {:>11} {:>11} {:>9}\n", "domain", "loss before", "after", "change");
  for (size_t i = 0; i < before.size(); ++i) {
    const double old = before[i].second.loss;
    const double now = after[i].second.loss;
    table += fmt::format(
        "{:<12} {:>11.4f} {:>11.4f} {:>+8.2f}%\n",
        before[i].first,
        old,
        now,
        (now / old - 1.0) * 100.0);
  }
  return table;
}

} // namespace

void add_folders(CommandLine& line, EditArguments& arguments, bool one_model) {
  if (one_model) {
    line.add_positional("in", arguments.in, "A run, or a Hugging Face folder.");
  }
  line.add_positional("out", arguments.out, "The folder to write.");
}

void add_data_flags(CommandLine& line, EditArguments& arguments, const std::string& help) {
  line.add_flag("data", &arguments.data, help, "Data");
  line.add_flag(
      "tokens",
      &arguments.tokens,
      "Tokens of each text that are looked at, drawn from all of it.",
      "Data");
}

void add_common_flags(CommandLine& line, EditArguments& arguments) {
  line.add_flag("seed", &arguments.seed, "Seed of whatever is drawn at random.", "Other");
  line.add_flag(
      "threads", &arguments.threads, "Threads of computation; 0 means one per core.", "Other");
  line.add_flag(
      "evaluate",
      &arguments.evaluate,
      "Text as NAME=PATH on which the loss before and after is printed; repeatable.",
      "Evaluation");
  line.add_flag(
      "max_tokens",
      &arguments.max_tokens,
      "Tokens per domain of the evaluation at most; 0 means all.",
      "Evaluation");
}

void parse_edit(CommandLine& line, const EditArguments& arguments, int argc, char** argv) {
  line.parse(argc, argv);
  check_is_new(arguments.out);
  prepare_process();
  use_threads(arguments.threads);
}

std::shared_ptr<const ModelFolder> open_model(const std::string& path, StatusLine& status) {
  const auto found = find_model_folder(path);
  for (const auto& warning : found.warnings) {
    status.log("warning: {}", warning);
  }
  auto model = std::make_shared<const ModelFolder>(found.folder);
  for (const auto& notice : model->notices()) {
    status.log("note: {}", notice);
  }
  return model;
}

std::vector<TextSample> sample_texts(
    const std::vector<std::string>& data,
    const ModelFolder& model,
    const EditArguments& arguments) {
  constexpr int64_t longest_window = 512;
  if (arguments.tokens < 1) {
    throw UsageError(fmt::format("--tokens: {} is not possible; at least 1", arguments.tokens));
  }
  std::vector<TextSample> samples;
  if (data.empty()) {
    return samples;
  }
  const EncodedTexts texts(data, Tokenizer::load(model.path()), model.path());
  for (const auto& text : texts.domains()) {
    samples.push_back(sample_text(
        text.name,
        text.tokens,
        arguments.tokens,
        std::min(model.options().context_length, longest_window),
        arguments.seed));
  }
  return samples;
}

int finish_edit(
    const EditArguments& arguments,
    const EditedModel& edited,
    const ModelFolder& source,
    StatusLine& status) {
  for (const auto& line : edited.report) {
    status.log("{}", line);
  }
  for (const auto& notice : save_edited_model(arguments.out, edited, source)) {
    status.log("note: {}", notice);
  }
  const auto count = count_parameters(edited.options);
  status.log(
      "{}: {:.2f}M parameters, {:.2f}M active per token",
      arguments.out,
      static_cast<double>(count.total) / 1e6,
      static_cast<double>(count.active) / 1e6);
  if (!arguments.evaluate.empty()) {
    write_stdout(
        comparison(scores_of(source.path(), arguments), scores_of(arguments.out, arguments)));
  }
  return exit_success;
}

} // namespace moe
