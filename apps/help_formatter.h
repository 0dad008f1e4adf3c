#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "apps/command_line.h"

namespace moe {

/// Writes `--help`: per option its flags and type, then its sentence and its default.
class HelpFormatter : public CLI::Formatter {
 public:
  explicit HelpFormatter(const CommandLine& line) : line_(line) {}

  std::string make_usage(const CLI::App* app, std::string name) const override;
  std::string make_group(
      std::string group,
      bool is_positional,
      std::vector<const CLI::Option*> options) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;

 private:
  const CommandLine& line_;
};

} // namespace moe
