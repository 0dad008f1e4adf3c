#include <fmt/format.h>

#include <iostream>
#include <iterator>
#include <string>

#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/json_output.h"
#include "apps/libtorch_support.h"
#include "apps/line_editor.h"
#include "apps/model_arguments.h"
#include "apps/output.h"
#include "apps/signals.h"
#include "apps/status_line.h"
#include "moe/data/utf8.h"
#include "moe/error.h"
#include "moe/generation/generator.h"

namespace {

using namespace moe;

struct Arguments {
  ModelArguments model;
  std::string weights = "float32";
  SamplerOptions sampling;
  std::string prompt;
  bool interactive = false;
  bool json = false;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  add_model_arguments(line, arguments.model);
  line.add_flag(
      "weights",
      &arguments.weights,
      "Type in which weights are held: float32, bfloat16 or int8. The smaller, the faster.",
      "Model");
  line.add_flag(
      "prompt", &arguments.prompt, "Text to continue; - reads it from stdin.", "Prompt");
  line.add_flag(
      "interactive", &arguments.interactive, "Ask for prompts, one by one.", "Prompt");
  line.add_options(arguments.sampling, sampling_groups());
  line.add_flag("json", &arguments.json, "Print one JSON object per text.", "Output");
  line.set_footer(
      "Examples:\n"
      "  moe-generate runs/demo --prompt \"Der Kernel\"\n"
      "  echo -n \"def main\" | moe-generate runs/demo --prompt - --temperature 0\n\n"
      "A text ends at the model's context length at the latest; a longer prompt is an error.");
}

double per_second(int64_t tokens, double seconds) {
  return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
}

nlohmann::ordered_json generation_json(
    const std::string& prompt, const Generation& generation) {
  const auto new_tokens = static_cast<int64_t>(generation.ids.size());
  return {
      {"prompt", prompt},
      {"text", generation.text},
      {"ids", generation.ids},
      {"finish", finish_reason_name(generation.finish)},
      {"prompt_tokens", generation.prompt_tokens},
      {"new_tokens", new_tokens},
      {"prefill_tokens_per_s",
       per_second(generation.prompt_tokens, generation.prefill_seconds)},
      {"decode_tokens_per_s", per_second(new_tokens - 1, generation.decode_seconds)}};
}

void check_prompt(const std::string& prompt) {
  const size_t valid = valid_utf8_prefix(prompt);
  check(valid == prompt.size(), "prompt: not UTF-8 at byte ", valid);
}

/// Continues one prompt: the prompt and the text as it is written, or one JSON object.
void continue_prompt(
    Generator& generator,
    const Tokenizer& tokenizer,
    const Arguments& arguments,
    const std::string& prompt) {
  check_prompt(prompt);
  const auto ids = tokenizer.encode_ordinary(prompt);
  if (!arguments.json && !arguments.interactive) {
    write_stdout(prompt);
  }
  const auto generation =
      generator.generate(ids, arguments.sampling, [&](std::string_view text) {
        if (!arguments.json) {
          write_stdout(text);
        }
        return stop_signal() == 0;
      });
  write_stdout(arguments.json ? json_line(generation_json(prompt, generation)) : "\n");
  if (generation.context_full) {
    StatusLine().log("note: the text ends where the model's context is full");
  }
}

std::string read_stdin() {
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

void run_prompt_loop(Generator& generator, const Tokenizer& tokenizer, Arguments arguments) {
  LineEditor editor("> ");
  while (stop_signal() == 0) {
    const auto prompt = editor.read_line();
    if (!prompt) {
      break;
    }
    try {
      continue_prompt(generator, tokenizer, arguments, *prompt);
    } catch (const Error& error) {
      StatusLine().log("error: {}", error.what());
    }
    ++arguments.sampling.seed;
  }
}

int generate(int argc, char** argv) {
  Arguments arguments;
  CommandLine line("moe-generate", "Writes text with a model.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  if (arguments.interactive && line.given("prompt")) {
    throw UsageError("--prompt and --interactive exclude each other");
  }
  if (!arguments.interactive && !line.given("prompt")) {
    throw UsageError("--prompt: no text is given to continue; or use --interactive");
  }
  validate(arguments.sampling);
  const auto weights = weight_type_from_name(arguments.weights);
  auto loaded = load_model(arguments.model);
  std::shared_ptr<InferenceSession> session = make_inference_session(loaded.model, weights);
  loaded.model = nullptr; // what the session needs of it, it holds
  if (session->description().starts_with("modules")) {
    StatusLine().log(
        "note: tokens are computed by {}, not from packed weights", session->description());
  }
  Generator generator(session, loaded.tokenizer);
  install_stop_signals();
  if (arguments.interactive) {
    run_prompt_loop(generator, loaded.tokenizer, arguments);
  } else {
    const auto prompt = arguments.prompt == "-" ? read_stdin() : arguments.prompt;
    continue_prompt(generator, loaded.tokenizer, arguments, prompt);
  }
  return stop_signal() != 0 ? signal_exit_code(stop_signal()) : exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-generate", [&] { return generate(argc, argv); }, moe::describe_libtorch_error);
}
