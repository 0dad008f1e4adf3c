#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "apps/command_line.h"
#include "apps/encoded_texts.h"
#include "apps/exit_code.h"
#include "apps/json_output.h"
#include "apps/libtorch_support.h"
#include "apps/model_arguments.h"
#include "apps/output.h"
#include "apps/status_line.h"
#include "moe/data/tokenizer/tokenizer_config.h"
#include "moe/error.h"
#include "moe/evaluation/evaluator.h"
#include "moe/evaluation/log_likelihood.h"
#include "moe/generation/packed_decoder.h"

namespace {

using namespace moe;

struct Arguments {
  ModelArguments model;
  std::string weights = "float32";
  std::vector<std::string> data;
  std::string tasks;
  int64_t sequence_length = 0;
  int64_t batch_size = 8;
  int64_t max_tokens = 0;
  bool document_mask = false;
  bool json = false;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  add_model_arguments(line, arguments.model);
  line.add_flag(
      "weights",
      &arguments.weights,
      "Type in which weights are held: float32, bfloat16 or int8, as moe-generate has it.",
      "Model");
  line.add_flag(
      "data",
      &arguments.data,
      "Text to evaluate on as PATH or NAME=PATH: a file, a folder or JSONL; repeatable.",
      "Data");
  line.add_flag(
      "tasks",
      &arguments.tasks,
      "JSONL of questions, {context, choices, label}, and texts, {text}, scored by the rules "
      "of "
      "lm-evaluation-harness.",
      "Data");
  line.add_flag(
      "sequence_length",
      &arguments.sequence_length,
      "Tokens per window; 0 means the model's context length.",
      "Data");
  line.add_flag("batch_size", &arguments.batch_size, "Windows per forward pass.", "Data");
  line.add_flag(
      "max_tokens", &arguments.max_tokens, "Tokens per domain at most; 0 means all.", "Data");
  line.add_flag(
      "document_mask", &arguments.document_mask, "Keep attention inside documents.", "Data");
  line.add_flag("json", &arguments.json, "Print one JSON object.", "Output");
  line.set_footer(
      "Examples:\n"
      "  moe-evaluate runs/demo --data en=corpus/en-heldout\n"
      "  moe-evaluate OLMoE-1B-7B --tasks questions.jsonl --json");
}

nlohmann::ordered_json score_json(const TextScore& score) {
  return {
      {"loss", score.loss},
      {"loss_stderr", score.loss_stderr},
      {"perplexity", score.perplexity},
      {"bits_per_byte", score.bits_per_byte},
      {"tokens", score.tokens},
      {"bytes", score.bytes}};
}

nlohmann::ordered_json evaluation_json(const Evaluation& evaluation) {
  auto result = score_json(evaluation.total);
  result["domains"] = nlohmann::ordered_json::object();
  for (const auto& [name, score] : evaluation.domains) {
    result["domains"][name] = score_json(score);
  }
  result["routing"] = nlohmann::ordered_json::array();
  for (const auto& layer : evaluation.routing) {
    result["routing"].push_back(
        {{"layer", layer.layer},
         {"load", layer.load},
         {"entropy", layer.entropy},
         {"max_violation", layer.max_violation},
         {"dead", layer.dead}});
  }
  return result;
}

std::string score_row(const std::string& name, const TextScore& score) {
  return fmt::format(
      "{:<12} {:>8.4f} ± {:<7.4f} {:>11.2f} {:>10.4f} {:>10} {:>10}\n",
      name,
      score.loss,
      score.loss_stderr,
      score.perplexity,
      score.bits_per_byte,
      score.tokens,
      score.bytes);
}

std::string score_table(const Evaluation& evaluation) {
  std::string table = fmt::format(
      "{:<12} {:>8}   {:<7} {:>11} {:>10} {:>10} {:>10}\n",
      "domain",
      "loss",
      "stderr",
      "perplexity",
      "bits/byte",
      "tokens",
      "bytes");
  for (const auto& [name, score] : evaluation.domains) {
    table += score_row(name, score);
  }
  return table + score_row("total", evaluation.total);
}

/// The load of each expert as one of eight bars: half of the mean, the mean, twice the mean,
/// ...
std::string load_bars(const std::vector<double>& load) {
  static const char* const kBars[] = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"};
  std::string bars;
  for (const double share : load) {
    const double relative = share * static_cast<double>(load.size());
    bars += kBars[std::clamp(static_cast<int>(relative * 4.0), 0, 7)];
  }
  return bars;
}

std::string routing_table(const std::vector<LayerRouting>& routing) {
  if (routing.empty()) {
    return "";
  }
  std::string table = fmt::format(
      "\n{:<6} {:>8} {:>14} {:>6}  {}\n",
      "layer",
      "entropy",
      "max violation",
      "dead",
      "load by expert (▄ is the mean)");
  for (const auto& layer : routing) {
    table += fmt::format(
        "{:<6} {:>8.4f} {:>14.3f} {:>5.0f}%  {}\n",
        layer.layer,
        layer.entropy,
        layer.max_violation,
        layer.dead * 100.0,
        load_bars(layer.load));
  }
  return table;
}

nlohmann::ordered_json tasks_json(const TaskScores& scores) {
  nlohmann::ordered_json result;
  if (const auto& choices = scores.choices; choices.questions > 0) {
    result["questions"] = choices.questions;
    result["acc"] = choices.acc.value;
    result["acc_stderr"] = choices.acc.stderr_;
    result["acc_norm"] = choices.acc_norm.value;
    result["acc_norm_stderr"] = choices.acc_norm.stderr_;
    result["acc_bytes"] = choices.acc_bytes.value;
    result["acc_bytes_stderr"] = choices.acc_bytes.stderr_;
  }
  if (const auto& rolling = scores.rolling; rolling.documents > 0) {
    result["documents"] = rolling.documents;
    result["word_perplexity"] = rolling.word_perplexity;
    result["byte_perplexity"] = rolling.byte_perplexity;
    result["bits_per_byte"] = rolling.bits_per_byte;
  }
  return result;
}

std::string tasks_table(const TaskScores& scores) {
  std::string table;
  const auto row = [&table](const char* name, const Accuracy& accuracy) {
    table += fmt::format("{:<16} {:>8.4f} ± {:.4f}\n", name, accuracy.value, accuracy.stderr_);
  };
  if (const auto& choices = scores.choices; choices.questions > 0) {
    table += fmt::format("{:<16} {:>8}\n", "questions", choices.questions);
    row("acc", choices.acc);
    row("acc_norm", choices.acc_norm);
    row("acc_bytes", choices.acc_bytes);
  }
  if (const auto& rolling = scores.rolling; rolling.documents > 0) {
    table += fmt::format(
        "{:<16} {:>8}\n{:<16} {:>8.4f}\n{:<16} {:>8.4f}\n{:<16} {:>8.4f}\n",
        "documents",
        rolling.documents,
        "word_perplexity",
        rolling.word_perplexity,
        "byte_perplexity",
        rolling.byte_perplexity,
        "bits_per_byte",
        rolling.bits_per_byte);
  }
  return table;
}

/// The id before the first of a text: what begins texts, or else what ends them.
int32_t prefix_id(const LoadedModel& loaded, const Tokenizer& tokenizer) {
  const auto config = read_tokenizer_config(loaded.folder);
  for (const auto& token : {config.bos_token, config.eos_token}) {
    if (const auto id = token ? tokenizer.token_id(*token) : std::nullopt) {
      return *id;
    }
  }
  check(
      tokenizer.end_of_text().has_value(),
      loaded.folder.string(),
      ": the tokenizer names no token that begins or ends a text");
  return *tokenizer.end_of_text();
}

LoadedModel load_rounded(const Arguments& arguments) {
  const auto weights = weight_type_from_name(arguments.weights);
  auto opened = open_model_folder(arguments.model);
  const int64_t context = opened.folder.options().context_length;
  check(
      arguments.sequence_length <= context,
      "sequence_length: ",
      arguments.sequence_length,
      " is more than the model's context_length (",
      context,
      ")");
  auto loaded = load_model(std::move(opened), arguments.model.device);
  if (weights != WeightType::float32) {
    round_weights(loaded.model, weights);
  }
  return loaded;
}

void evaluate_tasks_file(const Arguments& arguments) {
  const auto tasks = read_tasks(arguments.tasks);
  const auto loaded = load_rounded(arguments);
  const auto tokenizer = Tokenizer::load(loaded.folder);
  const auto scores = evaluate_tasks(
      loaded.model, tokenizer, tasks, prefix_id(loaded, tokenizer), arguments.batch_size);
  write_stdout(arguments.json ? json_line(tasks_json(scores)) : tasks_table(scores));
}

void evaluate_data(const Arguments& arguments) {
  const auto loaded = load_rounded(arguments);
  const auto tokenizer = Tokenizer::load(loaded.folder);
  const EncodedTexts texts(arguments.data, tokenizer, loaded.folder);
  EvaluationCut cut;
  cut.batch_size = arguments.batch_size;
  cut.sequence_length = arguments.sequence_length > 0 ? arguments.sequence_length
                                                      : loaded.model->options.context_length;
  cut.max_tokens = arguments.max_tokens;
  cut.document_mask = arguments.document_mask;
  const auto evaluation = evaluate(loaded.model, evaluation_domains(texts, cut));
  write_stdout(
      arguments.json ? json_line(evaluation_json(evaluation))
                     : score_table(evaluation) + routing_table(evaluation.routing));
}

void check_arguments(const Arguments& arguments) {
  if (arguments.data.empty() == arguments.tasks.empty()) {
    throw UsageError("--data NAME=PATH or --tasks FILE: one of them says what to evaluate on");
  }
  if (arguments.batch_size < 1) {
    throw UsageError(
        fmt::format("--batch-size: {} is not possible; at least 1", arguments.batch_size));
  }
  if (arguments.sequence_length < 0 || arguments.max_tokens < 0) {
    throw UsageError("--sequence-length and --max-tokens: at least 0");
  }
}

int evaluate_program(int argc, char** argv) {
  Arguments arguments;
  CommandLine line(
      "moe-evaluate", "Measures how well a model predicts text.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  check_arguments(arguments);
  if (arguments.tasks.empty()) {
    evaluate_data(arguments);
  } else {
    evaluate_tasks_file(arguments);
  }
  return exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-evaluate",
      [&] { return evaluate_program(argc, argv); },
      moe::describe_libtorch_error);
}
