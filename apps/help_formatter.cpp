#include "apps/help_formatter.h"

#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <sstream>
#include <vector>

#include "apps/terminal.h"

namespace moe {
namespace {

constexpr size_t left_columns = 32;

std::string flag_names(const CLI::Option* option) {
  const std::vector<std::string>& long_names = option->get_lnames();
  const bool negatable = long_names.size() == 2 && long_names[1] == "no-" + long_names[0];
  if (negatable) {
    return "--[no-]" + long_names[0];
  }
  std::string names;
  for (const std::string& name : option->get_snames()) {
    names += "-" + name + ", ";
  }
  return names + "--" + long_names[0];
}

std::string wrapped(const std::string& text, size_t columns) {
  std::istringstream words(text);
  std::string lines;
  size_t used = 0;
  for (std::string word; words >> word;) {
    if (used > 0 && used + 1 + word.size() > columns) {
      lines += "\n" + std::string(left_columns, ' ');
      used = 0;
    } else if (used > 0) {
      lines += ' ';
      ++used;
    }
    lines += word;
    used += word.size();
  }
  return lines;
}

bool is_empty_default(const OptionValue& value) {
  return std::visit(
      [](const auto& known) {
        if constexpr (requires { known.empty(); }) {
          return known.empty();
        }
        return false;
      },
      value);
}

std::string default_note(const OptionField& field) {
  const OptionValue value = field.value.read();
  if (is_empty_default(value) || (!field.in_config && value == OptionValue(false))) {
    return "";
  }
  const auto* text = std::get_if<std::string>(&value);
  return " [" + (text != nullptr ? *text : to_toml(value)) + "]";
}

} // namespace

std::string HelpFormatter::make_group(
    std::string group, bool is_positional, std::vector<const CLI::Option*> options) const {
  // CLI11 puts an empty line behind every group but the last one.
  std::string text = group + ":\n";
  for (const CLI::Option* option : options) {
    text += make_option(option, is_positional);
  }
  return is_positional ? text + "\n" : text;
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string name) const {
  std::string usage = "Usage: " + (name.empty() ? app->get_name() : name) + " [OPTIONS]";
  for (const CLI::Option* option : app->get_options()) {
    usage += option->get_positional() ? " " + make_option_usage(option) : "";
  }
  return usage + "\n\n";
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  std::string left = "  " + (is_positional ? option->get_name(true) : flag_names(option));
  std::string description = option->get_description();
  const auto& fields = line_.fields();
  const auto field = std::find_if(fields.begin(), fields.end(), [option](const auto& known) {
    return known.flag == option;
  });
  if (field != fields.end()) {
    const std::string hint = type_hint(field->value);
    left += hint.empty() || is_positional ? "" : " " + hint;
    description += default_note(*field);
  } else if (!option->get_type_name().empty()) {
    left += " " + option->get_type_name();
  }
  const auto width = static_cast<size_t>(std::clamp(terminal_width(STDOUT_FILENO), 60, 100));
  left += left.size() + 2 > left_columns ? "\n" + std::string(left_columns, ' ')
                                         : std::string(left_columns - left.size(), ' ');
  return left + wrapped(description, width - left_columns) + "\n";
}

} // namespace moe
