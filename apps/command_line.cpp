#include "apps/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "apps/exit_code.h"
#include "apps/help_formatter.h"
#include "apps/nearest_name.h"
#include "apps/toml_config.h"

namespace moe {
namespace {

std::string flag_name(const std::string& key) {
  std::string name = "--" + key;
  std::replace(name.begin(), name.end(), '_', '-');
  return name;
}

bool is_list(const OptionValue& value) {
  return std::holds_alternative<std::vector<int64_t>>(value) ||
         std::holds_alternative<std::vector<std::string>>(value) ||
         std::holds_alternative<std::vector<double>>(value);
}

// The options hold no variable: values are read from the texts after parsing, because CLI11's
// own conversion would take "[a,b]" for a list and rounds no number exactly as TOML does.
CLI::Option* add_flag_to(CLI::App& app, const OptionField& field) {
  const std::string name = flag_name(field.key);
  CLI::Option* flag = nullptr;
  const OptionValue value = field.value.read();
  if (const auto* truth = std::get_if<bool>(&value)) {
    const bool negatable = field.in_config || *truth;
    flag = app.add_flag(negatable ? name + ",!--no-" + name.substr(2) : name);
  } else {
    flag = app.add_option(name);
    if (is_list(value)) {
      flag->expected(1, CLI::detail::expected_max_vector_size)->allow_extra_args(false);
      flag->take_all();
    } else {
      flag->take_last();
    }
  }
  return flag->description(field.help)->group(field.group)->configurable(field.in_config);
}

std::string known_flag(const CLI::App& app, const std::string& argument) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      known.push_back("--" + name);
    }
  }
  const std::string name = argument.substr(0, argument.find('='));
  return did_you_mean(
      "--" + name.substr(std::min(name.size(), name.find_first_not_of('-'))), known);
}

// CLI11 takes the next argument as the value of `--stop=`.
std::vector<std::string> split_empty_values(
    const CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> split;
  for (const std::string& argument : arguments) {
    const CLI::Option* option = nullptr;
    if (argument.size() > 3 && argument.starts_with("--") && argument.ends_with("=")) {
      option = app.get_option_no_throw(argument.substr(0, argument.size() - 1));
    }
    if (option != nullptr && option->get_expected_min() > 0) {
      split.push_back(argument.substr(0, argument.size() - 1));
      split.emplace_back();
    } else {
      split.push_back(argument);
    }
  }
  return split;
}

[[noreturn]] void fail_config_file(const std::string& path) {
  std::error_code ignored;
  const auto status = std::filesystem::status(path, ignored);
  const char* reason = !std::filesystem::exists(status) ? "there is no such file"
                       : std::filesystem::is_directory(status)
                           ? "it is a folder; name a TOML file"
                           : "it cannot be read";
  throw UsageError("--config: " + path + ": " + reason);
}

} // namespace

CommandLine::CommandLine(
    std::string program, std::string description, std::function<std::string()> version_details)
    : program_(std::move(program)),
      version_details_(std::move(version_details)),
      app_(std::make_unique<CLI::App>(std::move(description), program_)) {
  app_->set_help_flag();
  app_->formatter(std::make_shared<HelpFormatter>(*this));
}

CommandLine::~CommandLine() = default;

void CommandLine::add_fields(
    std::vector<OptionField> fields, const std::vector<OptionGroup>& groups) {
  size_t group = 0;
  for (OptionField& field : fields) {
    const bool next = group < groups.size() && groups[group].first_key == field.key;
    group += next ? 1 : 0;
    if (group == 0) {
      throw std::logic_error("no group begins with the first option, " + field.key);
    }
    field.group = groups[group - 1].title;
    field.flag = add_flag_to(*app_, field);
    fields_.push_back(std::move(field));
  }
  if (group != groups.size()) {
    throw std::logic_error("the group of " + groups[group].first_key + " begins nowhere");
  }
}

void CommandLine::add_flag(
    const std::string& key,
    const OptionPointer& variable,
    const std::string& help,
    const std::string& group) {
  OptionField option;
  option.key = key;
  option.value = access_to(variable);
  option.help = help;
  option.group = group;
  option.in_config = false;
  option.flag = add_flag_to(*app_, option);
  fields_.push_back(std::move(option));
}

void CommandLine::add_positional(
    const std::string& name, std::string& field, const std::string& help) {
  OptionField option;
  option.key = name;
  option.value = access_to(&field);
  option.help = help;
  option.in_config = false;
  option.flag = app_->add_option(name)->description(help)->configurable(false)->required();
  fields_.push_back(std::move(option));
}

void CommandLine::add_config() {
  app_->set_config("--config", "", "Read options from a TOML file; flags win over it.")
      ->type_name("FILE")
      ->group("Configuration");
  app_->config_formatter(std::make_shared<TomlConfig>(*this));
  add_flag(
      "print_config",
      &print_config_,
      "Print the effective configuration as TOML and end; --config reads it again.",
      "Configuration");
}

void CommandLine::set_footer(const std::string& text) {
  app_->footer(text);
}

void CommandLine::parse(int argc, const char* const* argv) {
  // Set last, so that the help lists them last.
  app_->set_help_flag("-h,--help", "Print this help and end.")->group("Other");
  const auto version = [this] {
    return program_ + " " + MOE_VERSION +
           (version_details_ ? " (" + version_details_() + ")" : std::string());
  };
  app_->set_version_flag("--version", version, "Print the version and end.")->group("Other");
  std::vector<std::string> arguments = split_empty_values(
      *app_, std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  std::reverse(arguments.begin(), arguments.end());
  app_->allow_extras();
  try {
    app_->parse(arguments);
  } catch (const CLI::CallForHelp&) {
    throw EarlyExit{app_->help()};
  } catch (const CLI::CallForVersion& call) {
    throw EarlyExit{std::string(call.what()) + "\n"};
  } catch (const CLI::FileError&) {
    fail_config_file(config_path());
  } catch (const CLI::RequiredError& error) {
    if (app_->remaining_size() > 0) {
      fail_unknown_argument();
    }
    throw UsageError(std::string(error.what()) + "; see --help");
  } catch (const CLI::ArgumentMismatch& error) {
    const CLI::Option* config = app_->get_config_ptr();
    if (config != nullptr && config->count() > 1) {
      throw UsageError("--config: given more than once; one file, flags win over it");
    }
    const std::string text = error.what();
    throw UsageError(text.substr(0, text.find(':')) + ": its value is missing");
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }
  if (app_->remaining_size() > 0) {
    fail_unknown_argument();
  }
  for (OptionField& field : fields_) {
    if (field.flag->count() > 0 && field.source == OptionSource::default_value) {
      field.source = OptionSource::command_line;
    }
    if (field.source != OptionSource::default_value) {
      const bool positional = field.flag->get_positional();
      const std::string name = positional ? field.key : flag_name(field.key);
      field.value.write(parse_option(name, field.value, field.flag->results()));
    }
  }
}

void CommandLine::fail_unknown_argument() const {
  const std::vector<std::string> unknown = app_->remaining();
  const auto flag = std::find_if(unknown.begin(), unknown.end(), [](const std::string& text) {
    return text.size() > 1 && text.front() == '-';
  });
  if (flag == unknown.end()) {
    throw UsageError("unexpected argument '" + unknown.front() + "'; see --help");
  }
  const std::string hint = known_flag(*app_, *flag);
  const std::string name = flag->substr(0, flag->find('='));
  throw UsageError("unknown flag '" + name + "'" + (hint.empty() ? "; see --help" : hint));
}

void CommandLine::print_config_if_asked() const {
  if (print_config_) {
    throw EarlyExit{config_text()};
  }
}

std::string CommandLine::config_text() const {
  return write_toml(fields_, /*with_help=*/true);
}

OptionSource CommandLine::source(std::string_view key) const {
  const OptionField* field = find(key);
  if (field == nullptr) {
    throw std::logic_error("there is no option " + std::string(key));
  }
  return field->source;
}

bool CommandLine::given(std::string_view key) const {
  return source(key) != OptionSource::default_value;
}

std::string CommandLine::given_as(std::string_view key) const {
  return source(key) == OptionSource::file ? std::string(key) + " in " + config_path()
                                           : flag_name(std::string(key));
}

std::string CommandLine::config_path() const {
  const CLI::Option* config = app_->get_config_ptr();
  return config == nullptr || config->count() == 0 ? "" : config->results().back();
}

OptionField* CommandLine::find(std::string_view key) {
  return const_cast<OptionField*>(std::as_const(*this).find(key));
}

const OptionField* CommandLine::find(std::string_view key) const {
  const auto field = std::find_if(
      fields_.begin(), fields_.end(), [key](const auto& known) { return known.key == key; });
  return field == fields_.end() ? nullptr : &*field;
}

std::vector<OptionGroup> model_groups() {
  return {
      {"vocab_size", "Model"},
      {"num_heads", "Attention"},
      {"rope_theta", "Rotary positions"},
      {"norm_epsilon", "Normalisation"},
      {"num_experts", "Experts"},
      {"router_score", "Router"},
      {"initializer_range", "Initial weights"}};
}

std::vector<OptionGroup> training_groups() {
  return {
      {"data", "Data"},
      {"steps", "Training"},
      {"lr", "Optimizer"},
      {"router_lr_ratio", "Routers and balance"},
      {"device", "Machine"},
      {"eval_every", "Evaluation, checkpoints and log"}};
}

std::vector<OptionGroup> sampling_groups() {
  return {{"max_new_tokens", "Text"}};
}

} // namespace moe
