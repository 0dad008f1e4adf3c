#pragma once

#include <CLI/CLI.hpp>
#include <iosfwd>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/command_line.h"

namespace moe {

/// Reads and writes `--config` files for CLI11 with a real TOML parser: flat keys, one per
/// option.
///
/// CLI11's own reader takes a comment sign inside a string for a comment and has no types.
class TomlConfig : public CLI::Config {
 public:
  explicit TomlConfig(CommandLine& line) : line_(line) {}

  /// The effective configuration; `write_description` adds the help as comments.
  std::string to_config(
      const CLI::App* app,
      bool default_also,
      bool write_description,
      std::string prefix) const override;

  /// Throws `UsageError` naming file, line and key for what is no TOML, a section, an unknown
  /// key (with the nearest known one) and a wrong type.
  std::vector<CLI::ConfigItem> from_config(std::istream& input) const override;

 private:
  CommandLine& line_;
};

/// The values in a TOML text by key, each with the type of its field in `fields`; `path` is for
/// messages. Errors as in `TomlConfig::from_config`.
std::vector<std::pair<std::string, OptionValue>> read_toml(
    std::string_view text, const std::string& path, const std::deque<OptionField>& fields);

/// The options that are part of the configuration as TOML, under their headings.
std::string write_toml(const std::deque<OptionField>& fields, bool with_help);

} // namespace moe
