#include "apps/command_line.h"

#include <algorithm>

#include "apps/exit_code.h"
#include "apps/nearest_name.h"
#include "apps/resume_options.h"
#include "moe/decoder/decoder_options.h"
#include "moe/generation/sampler_options.h"
#include "moe/training/trainer_options.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
using Arguments = std::vector<std::string>;

namespace {

void parse(CommandLine& line, const Arguments& arguments) {
  std::vector<const char*> argv = {"moe-test"};
  for (const std::string& argument : arguments) {
    argv.push_back(argument.c_str());
  }
  line.parse(static_cast<int>(argv.size()), argv.data());
}

// A program with the options of training and two flags of its own.
struct Program {
  Program() {
    line.add_flag("out", &out, "Folder.", "Run");
    line.add_flag("resume", &resume, "Go on.", "Run");
    line.add_options(model, model_groups());
    line.add_options(training, training_groups());
    line.add_config();
  }

  DecoderOptions model;
  TrainerOptions training;
  std::string out;
  bool resume = false;
  CommandLine line{"moe-test", "Tests.", [] { return std::string("with nothing"); }};
};

std::string usage_error(const Arguments& arguments) {
  Program program;
  try {
    parse(program.line, arguments);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

std::string early_exit(const Arguments& arguments) {
  Program program;
  try {
    parse(program.line, arguments);
    program.line.print_config_if_asked();
  } catch (const EarlyExit& exit) {
    return exit.text;
  }
  return "no exit";
}

std::string file_error(const std::string& text) {
  const TemporaryFolder folder;
  const std::string path = folder.write("x.toml", text);
  std::string message = usage_error({"--config", path});
  const size_t at = message.find(path);
  return at == std::string::npos ? message : message.replace(at, path.size(), "x.toml");
}

// Gives every option a value that is not the default and hard to carry through a file.
template <class Options>
Options unusual() {
  struct Unusual {
    OptionValue operator()(bool value) {
      return !value;
    }
    OptionValue operator()(int64_t value) {
      return value + 9007199254740993 + ++count;
    }
    OptionValue operator()(double value) {
      return value / 3.0 + 1e-300 * ++count;
    }
    OptionValue operator()(const std::string&) {
      return "\"'#[a, b] = \\ größe 日本\n\r\t\x7f\x01" + std::to_string(++count);
    }
    OptionValue operator()(const std::vector<int64_t>&) {
      return std::vector<int64_t>{-1, 0, 7};
    }
    OptionValue operator()(const std::vector<double>&) {
      return std::vector<double>{-1.0, 1.0 / 3.0, 1e-300, 7.0};
    }
    OptionValue operator()(const std::vector<std::string>&) {
      return std::vector<std::string>{
          "a,b", "", "# \"quoted\"", "[x]", "--flag", "new\nline", "日本=/tmp/ü"};
    }
    int count = 0;
  };
  Options options;
  Unusual change;
  for (const auto& row : option_table<Options>()) {
    const auto& choices = row.traits.choices;
    row.write(
        options,
        choices.empty() ? std::visit(change, row.read(options))
                        : OptionValue(std::string(choices.back())));
  }
  return options;
}

template <class Options>
void check_round_trip(const std::vector<OptionGroup>& groups) {
  const TemporaryFolder folder;
  Options written = unusual<Options>();
  CommandLine first("moe-test", "");
  first.add_options(written, groups);
  const std::string text = first.config_text();

  Options read;
  CommandLine second("moe-test", "");
  second.add_options(read, groups);
  second.add_config();
  parse(second, {"--config", folder.write("x.toml", text)});
  CHECK(read == written);
  for (const OptionField& field : second.fields()) {
    CAPTURE(field.key);
    CHECK(second.given(field.key) == field.in_config);
  }
  CHECK(second.config_text() == text);
}

// Every option as a flag, in the form a shell would pass it.
template <class Options>
void check_flags(const std::vector<OptionGroup>& groups) {
  const Options wanted = unusual<Options>();
  Options source = wanted;
  CommandLine names("moe-test", "");
  names.add_options(source, groups);
  Arguments arguments;
  for (const OptionField& field : names.fields()) {
    std::string flag = "--" + field.key;
    std::replace(flag.begin(), flag.end(), '_', '-');
    const OptionValue value = field.value.read();
    if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
      for (const std::string& text : *texts) {
        arguments.insert(arguments.end(), {flag, text});
      }
    } else if (std::holds_alternative<std::vector<int64_t>>(value)) {
      arguments.push_back(flag + "=-1,0,7");
    } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
      for (const double number : *numbers) {
        arguments.push_back(flag + "=" + to_toml(number));
      }
    } else if (const auto* truth = std::get_if<bool>(&value)) {
      arguments.push_back(*truth ? flag : "--no-" + flag.substr(2));
    } else if (const auto* text = std::get_if<std::string>(&value)) {
      arguments.insert(arguments.end(), {flag, *text});
    } else {
      arguments.push_back(flag + "=" + to_toml(value));
    }
  }
  Options read;
  CommandLine line("moe-test", "");
  line.add_options(read, groups);
  parse(line, arguments);
  CHECK(read == wanted);
  for (const OptionField& field : line.fields()) {
    CAPTURE(field.key);
    CHECK(line.source(field.key) == OptionSource::command_line);
  }
}

} // namespace

TEST_CASE("command line: every option goes through --print-config and back", "[apps]") {
  check_round_trip<DecoderOptions>(model_groups());
  check_round_trip<TrainerOptions>(training_groups());
  check_round_trip<SamplerOptions>(sampling_groups());
}

TEST_CASE("command line: every option is a flag", "[apps]") {
  check_flags<DecoderOptions>(model_groups());
  check_flags<TrainerOptions>(training_groups());
  check_flags<SamplerOptions>(sampling_groups());
}

TEST_CASE("command line: the flag wins over the file, the file over the default", "[apps]") {
  const TemporaryFolder folder;
  const std::string path = folder.write(
      "x.toml",
      "steps = 5 # five\nlr = 1\nqk_norm = false\ngated = false\n"
      "data = [\n  'a#b',\n  \"c\",\n]\n");
  Program program;
  parse(program.line, {"--steps", "7", "--config", path, "--gated", "--mix", "x=1"});
  CHECK(program.training.steps == 7);
  CHECK(program.training.lr == 1.0);
  CHECK_FALSE(program.model.attention.qk_norm);
  CHECK(program.model.expert.gated);
  CHECK(program.training.data == Arguments{"a#b", "c"});
  CHECK(program.training.mix == Arguments{"x=1"});
  CHECK(program.line.source("steps") == OptionSource::command_line);
  CHECK(program.line.source("gated") == OptionSource::command_line);
  CHECK(program.line.source("lr") == OptionSource::file);
  CHECK(program.line.source("qk_norm") == OptionSource::file);
  CHECK(program.line.source("seed") == OptionSource::default_value);
  CHECK(program.line.config_path() == path);
}

TEST_CASE("command line: the last of a repeated flag counts, lists grow", "[apps]") {
  Program program;
  parse(
      program.line,
      {"--seed",
       "1",
       "--seed=2",
       "--no-qk-norm",
       "--gated=false",
       "--data",
       "[a,b]",
       "--data",
       "c",
       "--tokenizer="});
  CHECK(program.training.seed == 2);
  CHECK_FALSE(program.model.attention.qk_norm);
  CHECK_FALSE(program.model.expert.gated);
  CHECK(program.training.data == Arguments{"[a,b]", "c"});
  CHECK(program.training.tokenizer.empty());
}

TEST_CASE("command line: wrong flags are named with the nearest right one", "[apps]") {
  CHECK(
      usage_error({"--modl-dim", "3"}) ==
      "unknown flag '--modl-dim'; did you mean '--model-dim'?");
  CHECK(
      usage_error({"--no-qknorm"}) ==
      "unknown flag '--no-qknorm'; did you mean '--no-qk-norm'?");
  CHECK(usage_error({"-steps", "3"}) == "unknown flag '-steps'; did you mean '--steps'?");
  CHECK(usage_error({"--xylophone=3"}) == "unknown flag '--xylophone'; see --help");
  CHECK(usage_error({"steps"}) == "unexpected argument 'steps'; see --help");
  CHECK(usage_error({"--steps"}) == "--steps: its value is missing");
  CHECK(usage_error({"--steps", "x"}) == "--steps: 'x' is not possible; a whole number");
  CHECK(usage_error({"--gated=maybe"}) == "--gated: 'maybe' is not possible; true or false");
}

TEST_CASE("command line: a missing argument is named", "[apps]") {
  std::string run;
  CommandLine line("moe-test", "");
  line.add_positional("RUN", run, "Folder of a run.");
  REQUIRE_THROWS_WITH(parse(line, {}), ContainsSubstring("RUN"));
  parse(line, {"--", "-x"});
  CHECK(run == "-x");
}

TEST_CASE("config: errors name file, line, key and what would be right", "[apps]") {
  CHECK(
      file_error("\n# text\nexperts_per_tokn = 3\n") ==
      "unknown key 'experts_per_tokn' in x.toml line 3; did you mean 'experts_per_token'?");
  CHECK(
      file_error("experts-per-token = 3\n") ==
      "unknown key 'experts-per-token' in x.toml line 1; did you mean 'experts_per_token'?");
  CHECK(file_error("xylophone = 3\n") == "unknown key 'xylophone' in x.toml line 1");
  CHECK(
      file_error("steps = 2.0\n") ==
      "x.toml line 1: steps: expected a whole number, found the number 2.0");
  CHECK(
      file_error("lr = '1e-3'\n") ==
      "x.toml line 1: lr: expected a number, found the text \"1e-3\"");
  CHECK(
      file_error("qk_norm = 0\n") ==
      "x.toml line 1: qk_norm: expected true or false, found the whole number 0");
  CHECK(
      file_error("data = 'a'\n") ==
      "x.toml line 1: data: expected a list of texts, found the text \"a\"");
  CHECK(
      file_error("dense_layers = [0, '1']\n") ==
      "x.toml line 1: dense_layers: expected a list of whole numbers, found the text \"1\" in "
      "it");
  CHECK(
      file_error("device = 2020-01-01\n") ==
      "x.toml line 1: device: expected cpu or cuda, found a date or time");
  CHECK_THAT(
      file_error("[model]\nsteps = 1\n"), ContainsSubstring("line 1: 'model' is a section"));
  CHECK_THAT(file_error("model.steps = 1\n"), ContainsSubstring("'model' is a section"));
  CHECK_THAT(file_error("[[model]]\n"), ContainsSubstring("'model' is a section"));
  CHECK_THAT(file_error("steps = 1\nsteps = 2\n"), ContainsSubstring("x.toml line 2: no TOML"));
  CHECK_THAT(file_error("steps 1\n"), ContainsSubstring("x.toml line 1: no TOML"));
  CHECK(
      file_error("out = 'x'\n") ==
      "'out' in x.toml line 1 is only a flag, no key; give it as --out");
  CHECK_THAT(
      file_error("print_config = true\n"), ContainsSubstring("give it as --print-config"));
  // The first problem in the file, not in the alphabet.
  CHECK_THAT(file_error("steps = 'a'\nlr = 'b'\n"), ContainsSubstring("line 1: steps"));
}

TEST_CASE("config: files that cannot be read are named", "[apps]") {
  const TemporaryFolder folder;
  CHECK_THAT(
      usage_error({"--config", folder.path() / "none.toml"}),
      ContainsSubstring("none.toml: there is no such file"));
  CHECK_THAT(usage_error({"--config", folder.path()}), ContainsSubstring("it is a folder"));
  CHECK_THAT(usage_error({"--config", "/dev/zero"}), ContainsSubstring("more than 1 MiB"));
  const std::string nested = "data = " + std::string(100000, '[');
  CHECK_THAT(file_error(nested), ContainsSubstring("no TOML"));
}

TEST_CASE("command line: help shows groups, types, sentences and defaults", "[apps]") {
  const std::string help = early_exit({"--help", "--config", "none.toml"});
  for (const char* part :
       {"Usage: moe-test [OPTIONS]\n\nRun:\n",
        "\nAttention:\n",
        "\nOptimizer:\n",
        "  --model-dim INT               Width D of the residual stream. [256]\n",
        "  --[no-]qk-norm ",
        "  --resume                      Go on.\n",
        "  --lr NUMBER                   Peak learning rate. [0.001]\n"}) {
    CAPTURE(part);
    CHECK_THAT(help, ContainsSubstring(part));
  }
  CHECK(help.find("\n\n\n") == std::string::npos);
}

TEST_CASE("command line: version and configuration end the program", "[apps]") {
  CHECK_THAT(early_exit({"--version"}), ContainsSubstring("moe-test 0."));
  CHECK_THAT(early_exit({"--version"}), ContainsSubstring(" (with nothing)\n"));
  const std::string config = early_exit({"--print-config", "--lr=2"});
  CHECK_THAT(config, ContainsSubstring("\n# Peak learning rate.\nlr = 2.0\n"));
  CHECK(config.find("\nout") == std::string::npos);
}

TEST_CASE("resume: what was not given comes from the run", "[apps]") {
  const TemporaryFolder folder;
  Program first;
  parse(first.line, {"--lr", "0.25", "--data", "en=a", "--steps", "10", "--no-gated"});
  const std::string recorded = folder.write("config.toml", first.line.config_text());

  const auto resumed = [&recorded](Program& program, const Arguments& arguments) {
    parse(program.line, arguments);
    resume_options(program.line, recorded);
  };
  const auto refused = [&resumed](const Arguments& arguments) -> std::string {
    Program program;
    try {
      resumed(program, arguments);
    } catch (const UsageError& error) {
      return error.what();
    }
    return "";
  };
  SECTION("everything") {
    Program program;
    resumed(program, {"--resume"});
    CHECK(program.training == first.training);
    CHECK(program.model == first.model);
  }
  SECTION("repeated with the same values") {
    Program program;
    resumed(program, {"--resume", "--lr=25e-2", "--data", "en=a", "--gated=false"});
    CHECK(program.training == first.training);
  }
  SECTION("changed where that is allowed") {
    Program program;
    resumed(program, {"--steps=20", "--threads=3", "--log-every=1", "--checkpoint-every=7"});
    CHECK(program.training.steps == 20);
    CHECK(program.training.threads == 3);
    CHECK(program.training.checkpoint_every == 7);
    Program other;
    resumed(other, {"--recompute", "--keep-checkpoints=5"});
    CHECK(other.training.recompute);
    CHECK(other.training.keep_checkpoints == 5);
    CHECK(program.training.lr == 0.25);
  }
  SECTION("changed where that is not allowed") {
    CHECK(
        refused({"--lr", "0.5"}) ==
        "--lr: the run was started with 0.25, and --resume cannot change it to 0.5");
    CHECK_THAT(
        refused({"--gated"}), ContainsSubstring("--gated: the run was started with false"));
    CHECK_THAT(refused({"--data", "en=b"}), ContainsSubstring("[\"en=a\"]"));
  }
  SECTION("a default that is given counts as given") {
    CHECK_THAT(
        refused({"--lr=0.001"}), ContainsSubstring("--lr: the run was started with 0.25"));
  }
  SECTION("by a file") {
    const std::string same = folder.write("same.toml", "lr = 0.25\n");
    const std::string other = folder.write("other.toml", "lr = 1\n");
    CHECK(refused({"--config", same}).empty());
    CHECK_THAT(refused({"--config", other}), ContainsSubstring("lr in " + other));
    CHECK_THAT(
        refused({"--config", same, "--config", other}),
        ContainsSubstring("--config: given more than once"));
  }
  SECTION("from a run without its configuration") {
    Program program;
    parse(program.line, {});
    REQUIRE_THROWS_WITH(
        resume_options(program.line, folder.path() / "none"), ContainsSubstring("cannot read"));
  }
}

TEST_CASE("nearest name: typing errors are found, other words are not", "[apps]") {
  const std::vector<std::string> known = {"--steps", "--seed", "--experts-per-token"};
  CHECK(nearest_name("--stesp", known) == "--steps");
  CHECK(nearest_name("--seeds", known) == "--seed");
  CHECK(nearest_name("--expert_per_token", known) == "--experts-per-token");
  CHECK(nearest_name("--temperature", known).empty());
  CHECK(nearest_name("", known).empty());
  CHECK(nearest_name(std::string(100000, 'x'), known).empty());
}
