#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <optional>
#include <string>

#include "apps/command_line.h"
#include "apps/exit_code.h"
#include "apps/libtorch_support.h"
#include "apps/status_line.h"
#include "moe/checkpoint/companion_files.h"
#include "moe/checkpoint/model_folder.h"
#include "moe/checkpoint/run_folder.h"
#include "moe/conversion/gguf_architecture.h"
#include "moe/conversion/gguf_model.h"
#include "moe/conversion/more_tokens.h"
#include "moe/data/chat/chat_format.h"
#include "moe/data/chat/chatml.h"
#include "moe/error.h"
#include "moe/files/atomic_folder.h"

namespace {

using namespace moe;

struct Arguments {
  std::string in;
  std::string out;
  std::string dtype;
  std::string max_shard_size;
  std::string architecture;
  std::string gguf;
  std::string chat_format;
};

void add_arguments(CommandLine& line, Arguments& arguments) {
  line.add_positional("in", arguments.in, "A run, or a Hugging Face folder.");
  line.add_positional("out", arguments.out, "The folder to write; with --gguf the file.");
  line.add_flag(
      "dtype",
      &arguments.dtype,
      "Type of the stored weights: float32, bfloat16 or float16; as they are if not given.",
      "Output");
  line.add_flag(
      "architecture",
      &arguments.architecture,
      "Write as this architecture of Hugging Face, if it computes the same; the model's own if "
      "not given.",
      "Output");
  line.add_flag(
      "max_shard_size",
      &arguments.max_shard_size,
      "Split the weights into files of at most this size, such as 2GB or 500MB.",
      "Output");
  line.add_flag(
      "gguf", &arguments.gguf, "Write a GGUF file for llama.cpp: f32, bf16 or q8_0.", "Output");
  line.add_flag(
      "chat_format",
      &arguments.chat_format,
      "Make a base model ready to be trained on conversations: chatml adds its two tokens and "
      "the chat template.",
      "Output");
  line.set_footer(
      "Examples:\n"
      "  moe-convert runs/demo demo-bf16 --dtype bfloat16\n"
      "  moe-convert runs/demo demo-chat --chat-format chatml\n"
      "  moe-convert runs/demo demo.gguf --gguf q8_0\n\n"
      "GGUF is written for models with byte-level tokenizers, or none, of the architectures\n" +
      fmt::format("{}.", fmt::join(gguf_families(), ", ")));
}

/// "2GB" as bytes; units of 1000, as Hugging Face counts them.
int64_t parse_size(const std::string& text) {
  if (text.empty()) {
    return 0;
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string unit(end, text.data() + text.size());
  const int64_t factor = unit == "KB"   ? 1'000
                         : unit == "MB" ? 1'000'000
                         : unit == "GB" ? 1'000'000'000
                         : unit.empty() ? 1
                                        : 0;
  if (error != std::errc() || value < 1 || factor == 0 || value > INT64_MAX / factor) {
    throw UsageError(fmt::format("--max-shard-size: {} is not a size such as 2GB", text));
  }
  return value * factor;
}

torch::ScalarType dtype_of(const Arguments& arguments, const ModelFolder& model) {
  const auto name = arguments.dtype.empty() ? model.extras().dtype : arguments.dtype;
  if (name == "float32") {
    return torch::kFloat32;
  }
  if (name == "bfloat16") {
    return torch::kBFloat16;
  }
  if (name != "float16") {
    throw UsageError(fmt::format("--dtype: {} is not one of float32, bfloat16, float16", name));
  }
  return torch::kFloat16;
}

/// The architecture to write: the one asked for, if it expresses the model.
std::string family_of(const Arguments& arguments, const ModelFolder& model) {
  const auto& asked = arguments.architecture;
  if (asked.empty()) {
    return model.family();
  }
  const auto known = known_families();
  if (std::find(known.begin(), known.end(), asked) == known.end()) {
    throw UsageError(fmt::format(
        "--architecture: {} is not known; known are {}", asked, fmt::join(known, ", ")));
  }
  const auto written = write_config(model.options(), {}, asked);
  check(
      written.family == asked,
      "--architecture: ",
      asked,
      " computes something else than this ",
      model.family(),
      "; ",
      written.family,
      " would express it");
  return asked;
}

/// The tokenizer with the turns' tokens. A model that has turns already keeps them.
Tokenizer tokenizer_with_turns(const std::filesystem::path& folder) {
  auto tokenizer = Tokenizer::load(folder);
  const auto config = read_tokenizer_config(folder);
  const auto extended = with_chatml_tokens(tokenizer);
  check(
      config.chat_template.empty() && extended.vocab_size() > tokenizer.vocab_size(),
      "--chat-format: ",
      folder.string(),
      " has a chat template or the tokens of one already");
  return extended;
}

void write_folder(const Arguments& arguments, const ModelFolder& model, StatusLine& status) {
  const std::filesystem::path out = arguments.out;
  ModelExtras extras;
  extras.dtype = dtype_of(arguments, model);
  extras.load_balancing_weight = model.extras().load_balancing_weight;
  extras.family = family_of(arguments, model);
  extras.keep_types = arguments.dtype.empty();
  extras.max_shard_bytes = parse_size(arguments.max_shard_size);
  extras.bos_token_id = model.extras().bos_token_id;
  extras.eos_token_ids = model.extras().eos_token_ids;
  auto options = model.options();
  auto tensors = model.lazy_tensors();
  std::optional<Tokenizer> tokenizer;
  if (!arguments.chat_format.empty()) {
    tokenizer = tokenizer_with_turns(model.path());
    add_tokens(options, tensors, tokenizer->vocab_size());
  }
  AtomicFolder target(out);
  for (const auto& notice : write_model_files(target.path(), options, tensors, extras)) {
    status.log("note: {}", notice);
  }
  copy_companions(model.path(), target.path());
  if (tokenizer) {
    tokenizer->save(target.path() / "tokenizer.json");
    write_chatml_template(target.path(), *tokenizer);
  }
  target.commit();
}

void write_gguf_file(const Arguments& arguments, const ModelFolder& model, StatusLine& status) {
  std::error_code error;
  std::optional<Tokenizer> tokenizer;
  if (std::filesystem::exists(model.path() / "tokenizer.json", error)) {
    tokenizer = Tokenizer::load(model.path());
  }
  for (const auto& notice :
       write_gguf_model(arguments.out, model, gguf_type(arguments.gguf), tokenizer)) {
    status.log("note: {}", notice);
  }
}

int convert(int argc, char** argv) {
  Arguments arguments;
  CommandLine line("moe-convert", "Writes a model in another layout.", libtorch_details);
  add_arguments(line, arguments);
  line.parse(argc, argv);
  if (!arguments.gguf.empty()) {
    for (const char* other : {"dtype", "architecture", "max_shard_size", "chat_format"}) {
      if (line.given(other)) {
        throw UsageError(
            "--gguf excludes --dtype, --architecture, --max-shard-size and --chat-format");
      }
    }
  }
  if (line.given("chat_format") && arguments.chat_format != "chatml") {
    throw UsageError(fmt::format(
        "--chat-format: {} cannot be added to a model, only chatml", arguments.chat_format));
  }
  if (arguments.gguf.empty()) {
    check_is_new(arguments.out);
  }
  StatusLine status;
  const auto found = find_model_folder(arguments.in);
  const ModelFolder model(found.folder);
  for (const auto& notice : model.notices()) {
    status.log("note: {}", notice);
  }
  if (arguments.gguf.empty()) {
    write_folder(arguments, model, status);
  } else {
    write_gguf_file(arguments, model, status);
  }
  return exit_success;
}

} // namespace

int main(int argc, char** argv) {
  return moe::run_main(
      "moe-convert", [&] { return convert(argc, argv); }, moe::describe_libtorch_error);
}
