#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <csignal>
#include <iostream>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/expert_tracer.h"
#include "apps/json_output.h"
#include "apps/libtorch_support.h"
#include "apps/line_editor.h"
#include "apps/model_arguments.h"
#include "apps/output.h"
#include "apps/signals.h"
#include "apps/status_line.h"
#include "moe/data/chat/chat_format.h"
#include "moe/data/utf8.h"
#include "moe/error.h"
#include "moe/generation/generator.h"
#include "moe/generation/packed_decoder.h"
#include "moe/generation/tracing_session.h"

namespace {

using namespace moe;

struct Arguments {
  ModelArguments model;
  std::string weights = "float32";
  SamplerOptions sampling;
  std::string prompt;
  std::vector<int64_t> prompt_ids;
  bool interactive = false;
  bool chat = false;
  std::string chat_format;
  std::string system;
  bool trace_experts = false;
  bool json = false;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  add_model_arguments(line, arguments.model);
  line.add_flag(
      "weights",
      &arguments.weights,
      "Type in which weights are held: float32, bfloat16 or int8. The smaller, the faster; the "
      "latter two halve what a long text takes, too.",
      "Model");
  line.add_flag(
      "prompt", &arguments.prompt, "Text to continue; - reads it from stdin.", "Prompt");
  line.add_flag(
      "prompt_ids",
      &arguments.prompt_ids,
      "The same as token ids; works without a tokenizer, too.",
      "Prompt");
  line.add_flag(
      "interactive",
      &arguments.interactive,
      "Ask for prompts, one by one; Ctrl-C ends an answer, Ctrl-D the program.",
      "Prompt");
  line.add_flag(
      "chat", &arguments.chat, "The prompt is what a user says; write the reply.", "Chat");
  line.add_flag(
      "chat_format",
      &arguments.chat_format,
      fmt::format(
          "How turns are written: {}; the model's own if not given.", chat_format_names()),
      "Chat");
  line.add_flag("system", &arguments.system, "What the model is told before.", "Chat");
  line.add_options(arguments.sampling, sampling_groups());
  line.add_flag(
      "trace_experts",
      &arguments.trace_experts,
      "Show the experts of each token, the prompt's too: a line per token, a column per layer.",
      "Output");
  line.add_flag("json", &arguments.json, "Print one JSON object per text.", "Output");
  line.set_footer(
      "Examples:\n"
      "  moe-generate runs/demo --prompt \"Der Kernel\"\n"
      "  echo -n \"def main\" | moe-generate runs/demo --prompt - --temperature 0\n"
      "  moe-generate Qwen3-30B-A3B --chat --interactive --system \"Be brief.\"\n"
      "  moe-generate FOLDER --prompt-ids 5,17,9 --max-new-tokens 16 --temperature 0 --json\n"
      "  moe-generate runs/demo --prompt \"Der Kernel\" --trace-experts\n\n"
      "A text ends at the model's context length at the latest; a longer prompt is an error,\n"
      "but a conversation forgets its oldest turns.");
}

void check_arguments(const CommandLine& line, const Arguments& arguments) {
  const int prompts = arguments.interactive + line.given("prompt") + line.given("prompt_ids");
  if (prompts > 1) {
    throw UsageError("--prompt, --prompt-ids and --interactive exclude each other");
  }
  if (prompts == 0) {
    throw UsageError("--prompt: no text is given to continue; or use --interactive");
  }
  if (line.given("prompt_ids") && arguments.chat) {
    throw UsageError("--prompt-ids and --chat exclude each other");
  }
  if (!arguments.chat && (line.given("chat_format") || line.given("system"))) {
    throw UsageError("--chat-format and --system: only with --chat");
  }
}

using Session = std::shared_ptr<InferenceSession>;

/// What writes, and what tells of it.
struct Writer {
  Session session;
  ExpertTracer& trace;
};

double per_second(int64_t tokens, double seconds) {
  return seconds > 0.0 ? static_cast<double>(tokens) / seconds : 0.0;
}

nlohmann::ordered_json generation_json(const Generation& generation) {
  const auto new_tokens = static_cast<int64_t>(generation.ids.size());
  return {
      {"ids", generation.ids},
      {"finish", finish_reason_name(generation.finish)},
      {"prompt_tokens", generation.prompt_tokens},
      {"new_tokens", new_tokens},
      {"prefill_tokens_per_s",
       per_second(generation.prompt_tokens, generation.prefill_seconds)},
      {"decode_tokens_per_s", per_second(new_tokens - 1, generation.decode_seconds)}};
}

nlohmann::ordered_json generation_json(
    const std::string& prompt, const Generation& generation) {
  nlohmann::ordered_json result = {{"prompt", prompt}, {"text", generation.text}};
  result.update(generation_json(generation));
  return result;
}

void note_full_context(const Generation& generation) {
  if (generation.context_full) {
    StatusLine().log("note: the text ends where the model's context is full");
  }
}

void check_prompt(const std::string& prompt) {
  const size_t valid = valid_utf8_prefix(prompt);
  check(valid == prompt.size(), "prompt: not UTF-8 at byte ", valid);
}

/// Writes on from `ids`: the text as it is written, behind `beginning`, or one JSON object that
/// tells the prompt. A prompt that is not possible is an error before anything is written.
Generation write_text(
    Generator& generator,
    const Writer& writer,
    const Arguments& arguments,
    const std::string& prompt,
    const std::vector<int32_t>& ids,
    std::string beginning = "") {
  const bool streams = !arguments.json && !writer.trace.enabled();
  const auto generation =
      generator.generate(ids, arguments.sampling, [&](std::string_view text) {
        if (streams) {
          write_stdout(std::exchange(beginning, "").append(text));
        }
        return stop_signal() == 0;
      });
  writer.trace.finish(*writer.session, generation);
  if (arguments.json) {
    auto result = generation_json(prompt, generation);
    writer.trace.add_to(result);
    write_stdout(json_line(result));
  } else {
    write_stdout(streams ? beginning + "\n" : "\n" + generation.text + "\n");
  }
  note_full_context(generation);
  return generation;
}

/// The bytes of tokens as a trace shows them; the number of an id that has none.
TextOfToken text_of_tokens(const Tokenizer& tokenizer) {
  return [tokenizer](int32_t id) {
    try {
      return tokenizer.token_bytes(id);
    } catch (const Error&) {
      return std::to_string(id);
    }
  };
}

/// Continues one prompt.
void continue_prompt(
    Generator& generator,
    const Writer& writer,
    const Tokenizer& tokenizer,
    const Arguments& arguments,
    const std::string& prompt) {
  check_prompt(prompt);
  const auto ids = tokenizer.with_special_tokens(tokenizer.encode_ordinary(prompt));
  writer.trace.begin(text_of_tokens(tokenizer));
  write_text(generator, writer, arguments, prompt, ids, arguments.interactive ? "" : prompt);
}

/// How a model's conversations are written.
struct ChatSetup {
  Tokenizer tokenizer;
  ChatFormat format;
};

std::vector<ChatMessage> first_messages(const std::string& system) {
  return system.empty() ? std::vector<ChatMessage>()
                        : std::vector<ChatMessage>{{"system", system}};
}

/// Throws `Error` already here, before weights are read and prompts are asked for, where no
/// conversation can begin.
ChatSetup open_chat(const OpenedModel& opened, const Arguments& arguments) {
  const auto config = read_tokenizer_config(opened.folder.path());
  auto tokenizer = Tokenizer::load(opened.folder.path());
  auto format = arguments.chat_format.empty()
                    ? recognise_chat_format(config, tokenizer)
                    : named_chat_format(arguments.chat_format, config);
  auto messages = first_messages(arguments.system);
  messages.push_back({"user", ""});
  encode_chat(format, tokenizer, messages, /*add_reply_header=*/true);
  return {std::move(tokenizer), std::move(format)};
}

/// A conversation with the model.
class Conversation {
 public:
  Conversation(Generator& generator, Writer writer, const ChatSetup& setup)
      : generator_(generator), writer_(std::move(writer)), setup_(setup) {}

  /// Answers what the user says, and remembers both.
  void answer(const Arguments& arguments, const std::string& said) {
    check_prompt(said);
    auto messages = messages_.empty() ? first_messages(arguments.system) : messages_;
    messages.push_back({"user", said});
    const auto ids = encode(messages, arguments.sampling.max_new_tokens);
    writer_.trace.begin(text_of_tokens(setup_.tokenizer));
    const auto generation = write_text(generator_, writer_, arguments, said, ids);
    messages.push_back({"assistant", generation.text});
    messages_ = std::move(messages);
  }

 private:
  /// The ids of a conversation, of which the oldest turns go where they leave too little room
  /// for a reply.
  std::vector<int32_t> encode(std::vector<ChatMessage>& messages, int64_t max_new_tokens) {
    const int64_t context = writer_.session->options().context_length;
    const int64_t most = context - std::min(max_new_tokens, context / 4);
    const auto first_turn = messages.begin() + (messages[0].role == "system" ? 1 : 0);
    bool forgets = false;
    while (true) {
      auto ids =
          encode_chat(setup_.format, setup_.tokenizer, messages, /*add_reply_header=*/true).ids;
      if (static_cast<int64_t>(ids.size()) <= most || messages.end() - first_turn < 3) {
        if (forgets) {
          StatusLine().log("note: the context is full: the oldest turns are forgotten");
        }
        return ids;
      }
      messages.erase(first_turn, first_turn + 2); // a question and its answer
      forgets = true;
    }
  }

  Generator& generator_;
  Writer writer_;
  const ChatSetup& setup_;
  std::vector<ChatMessage> messages_;
};

std::string read_stdin() {
  return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

/// Calls `answer` with the prompt, or with one line after the other. SIGINT ends an answer;
/// between two answers, it ends the program.
template <class Answer>
void for_each_prompt(Arguments& arguments, Answer&& answer) {
  if (!arguments.interactive) {
    answer(arguments.prompt == "-" ? read_stdin() : arguments.prompt);
    return;
  }
  LineEditor editor("> ");
  while (stop_signal() != SIGTERM) {
    remove_stop_signals();
    const auto prompt = editor.read_line();
    if (!prompt) {
      break;
    }
    install_stop_signals();
    try {
      answer(*prompt);
    } catch (const Error& error) {
      StatusLine().log("error: {}", error.what());
    }
    ++arguments.sampling.seed;
  }
}

/// A session of modules, of which the trace hears; they compute as packed weights would.
Session make_tracing_session(DecoderLM model, WeightType weights, ExpertTracer& trace) {
  if (weights != WeightType::float32) {
    round_weights(model, weights);
  }
  return std::make_shared<TracingSession>(
      model, [&trace](const TracedToken& token) { trace.add(token); });
}

Session open_session(
    const ModelFolder& folder,
    const std::string& device,
    WeightType weights,
    ExpertTracer& trace) {
  if (trace.enabled()) {
    return make_tracing_session(read_model(folder, device), weights, trace);
  }
  return device == "cpu" ? open_inference_session(folder, weights)
                         : make_inference_session(read_model(folder, device), weights);
}

/// What computes the tokens.
Session make_session(
    const ModelFolder& folder,
    const std::string& device,
    WeightType weights,
    ExpertTracer& trace) {
  const auto session = open_session(folder, device, weights, trace);
  if (session->description().starts_with("modules")) {
    StatusLine().log(
        "note: tokens are computed by {}, not from packed weights", session->description());
  }
  return session;
}

void generate_text(const OpenedModel& opened, const Writer& writer, Arguments& arguments) {
  const auto tokenizer = Tokenizer::load(opened.folder.path());
  Generator generator(writer.session, tokenizer, {opened.end_of_text});
  for_each_prompt(arguments, [&](const std::string& prompt) {
    continue_prompt(generator, writer, tokenizer, arguments, prompt);
  });
}

void chat(
    const OpenedModel& opened,
    const ChatSetup& setup,
    const Writer& writer,
    Arguments& arguments) {
  TextRules rules = {
      end_of_reply_ids(setup.format, setup.tokenizer), /*continues_prompt=*/false};
  rules.end_of_text.insert(
      rules.end_of_text.end(), opened.end_of_text.begin(), opened.end_of_text.end());
  Generator generator(writer.session, setup.tokenizer, rules);
  Conversation conversation(generator, writer, setup);
  for_each_prompt(arguments, [&](const std::string& said) {
    if (!said.empty() || !arguments.interactive) {
      conversation.answer(arguments, said);
    }
  });
}

/// Adds the text, unless the model has ids that the tokenizer does not know.
void add_text(
    const Tokenizer& tokenizer,
    const std::vector<int32_t>& ids,
    nlohmann::ordered_json& result) {
  try {
    result["text"] = tokenizer.decode(ids);
  } catch (const Error& error) {
    StatusLine().log("note: no text, only ids: {}", error.what());
  }
}

/// The folder's tokenizer if it has one that can be read; a notice says why not.
std::optional<Tokenizer> tokenizer_if_any(const OpenedModel& opened) {
  try {
    return Tokenizer::load(opened.folder.path());
  } catch (const Error& error) {
    StatusLine().log("note: no text, only ids: {}", error.what());
    return std::nullopt;
  }
}

void continue_ids(const OpenedModel& opened, const Writer& writer, const Arguments& arguments) {
  std::vector<int32_t> prompt;
  for (const int64_t id : arguments.prompt_ids) {
    check(id >= 0 && id <= INT32_MAX, "prompt_ids: ", id, " is no token id");
    prompt.push_back(static_cast<int32_t>(id));
  }
  const auto tokenizer = tokenizer_if_any(opened);
  auto end_of_text = opened.end_of_text;
  if (tokenizer && tokenizer->end_of_text()) {
    end_of_text.push_back(*tokenizer->end_of_text());
  }
  writer.trace.begin(
      tokenizer ? text_of_tokens(*tokenizer) : [](int32_t id) { return std::to_string(id); });
  auto generation =
      generate_tokens(*writer.session, prompt, arguments.sampling, end_of_text, [](int32_t) {
        return stop_signal() == 0;
      });
  writer.trace.finish(*writer.session, generation);
  auto result = generation_json(generation);
  if (tokenizer) {
    add_text(*tokenizer, generation.ids, result);
  }
  writer.trace.add_to(result);
  write_stdout(
      arguments.json ? json_line(result) : fmt::format("{}\n", fmt::join(generation.ids, ",")));
  note_full_context(generation);
}

int generate(int argc, char** argv) {
  Arguments arguments;
  CommandLine line("moe-generate", "Writes text with a model.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  check_arguments(line, arguments);
  validate(arguments.sampling);
  const auto weights = weight_type_from_name(arguments.weights);
  const auto opened = open_model_folder(arguments.model);
  const auto chat_setup =
      arguments.chat ? std::optional(open_chat(opened, arguments)) : std::nullopt;
  ExpertTracer trace(arguments.trace_experts, arguments.json, opened.folder.options());
  const Writer writer{
      make_session(opened.folder, arguments.model.device, weights, trace), trace};
  install_stop_signals();
  if (line.given("prompt_ids")) {
    continue_ids(opened, writer, arguments);
  } else if (chat_setup) {
    chat(opened, *chat_setup, writer, arguments);
  } else {
    generate_text(opened, writer, arguments);
  }
  return stop_signal() != 0 ? signal_exit_code(stop_signal()) : exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-generate", [&] { return generate(argc, argv); }, moe::describe_libtorch_error);
}
