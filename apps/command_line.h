#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apps/option_value.h"

namespace CLI {
class App;
class Option;
} // namespace CLI

namespace moe {

/// Where the value of an option comes from.
enum class OptionSource { default_value, file, command_line };

/// A heading of the help: it begins with the option `first_key` and ends with the next group.
struct OptionGroup {
  std::string first_key;
  std::string title;
};

/// One option of a program.
struct OptionField {
  /// Name in TOML; the flag is `--` and the name with `-` for `_`.
  std::string key;
  OptionAccess value;
  std::string help;
  std::string group;
  /// Whether it is part of the configuration (a TOML key), not only a flag.
  bool in_config = true;
  OptionSource source = OptionSource::default_value;
  CLI::Option* flag = nullptr;
};

/// The flags of a program, made from the fields of its options structs, with `--help`,
/// `--version`, `--config FILE` and `--print-config`.
///
/// A bool is a pair of flags, `--gated` and `--no-gated`; a list is a flag that may be
/// repeated. The command line wins over the file, the file over the defaults.
///
/// Example:
/// ```
/// DecoderOptions model;
/// bool resume = false;
/// CommandLine line("moe-train", "Trains a model.", libtorch_details);
/// line.add_options(model, model_groups());
/// line.add_flag("resume", &resume, "Continue the run in --out.", "Run");
/// line.add_config();
/// line.parse(argc, argv);
/// ```
class CommandLine {
 public:
  /// `version_details` writes the part of `--version` that follows the project's version.
  CommandLine(
      std::string program,
      std::string description,
      std::function<std::string()> version_details = {});
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  /// Adds a flag and a TOML key for every row of the table of `options`, which must outlive
  /// this. The values it has now are the defaults. The first group must begin with the first
  /// field.
  template <class Options>
  void add_options(Options& options, const std::vector<OptionGroup>& groups) {
    std::vector<OptionField> fields;
    for (const auto& row : option_table<Options>()) {
      OptionField& field = fields.emplace_back();
      field.key = row.key;
      field.value = access_to(row, options);
      field.help = row.help;
    }
    add_fields(std::move(fields), groups);
  }

  /// Adds a flag that is no TOML key: what is done, not how (`--out`, `--resume`, `--json`).
  void add_flag(
      const std::string& key,
      const OptionPointer& variable,
      const std::string& help,
      const std::string& group);

  /// Adds an argument without a flag, such as the run that is evaluated.
  void add_positional(const std::string& name, std::string& field, const std::string& help);

  /// Adds `--config FILE` and `--print-config`.
  void add_config();

  /// Text that follows the flags in `--help`: examples, exit codes.
  void set_footer(const std::string& text);

  /// Reads the arguments and the file that `--config` names into the fields.
  ///
  /// Throws `UsageError` for what cannot be understood, naming the nearest known flag or key,
  /// and `EarlyExit` for `--help` and `--version`.
  void parse(int argc, const char* const* argv);

  /// Throws `EarlyExit` with `config_text()` if `--print-config` was given. Separate from
  /// `parse` so that a program can first complete the options (for example from a run).
  void print_config_if_asked() const;

  /// The effective configuration as TOML; feeding it to `--config` gives the same options.
  std::string config_text() const;

  /// Where the option `key` comes from.
  OptionSource source(std::string_view key) const;

  /// Whether `key` was given, by a flag or in the file.
  bool given(std::string_view key) const;

  /// How the option `key` was given: `--KEY`, or `KEY in FILE`.
  std::string given_as(std::string_view key) const;

  /// The argument of `--config`; empty if not given.
  std::string config_path() const;

  /// All options in order of definition.
  const std::deque<OptionField>& fields() const {
    return fields_;
  }

 private:
  friend class TomlConfig;
  friend void resume_options(CommandLine&, const std::string&, const std::vector<std::string>&);

  void add_fields(std::vector<OptionField> fields, const std::vector<OptionGroup>& groups);
  OptionField* find(std::string_view key);
  const OptionField* find(std::string_view key) const;
  [[noreturn]] void fail_unknown_argument() const;

  std::string program_;
  std::function<std::string()> version_details_;
  std::unique_ptr<CLI::App> app_;
  std::deque<OptionField> fields_;
  bool print_config_ = false;
};

/// Headings of `DecoderOptions`.
std::vector<OptionGroup> model_groups();

/// Headings of `TrainerOptions`.
std::vector<OptionGroup> training_groups();

/// Headings of `SamplerOptions`.
std::vector<OptionGroup> sampling_groups();

} // namespace moe
