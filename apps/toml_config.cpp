#include "apps/toml_config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cmath>
#include <istream>
#include <optional>
#include <sstream>

#include "apps/exit_code.h"
#include "apps/nearest_name.h"

namespace moe {
namespace {

constexpr size_t largest_config = 1 << 20;

std::string place(const std::string& path, const toml::node& node) {
  return path + " line " + std::to_string(node.source().begin.line);
}

std::string found_kind(const toml::node& node) {
  if (const auto* text = node.as_string()) {
    return "the text " + to_toml(text->get());
  }
  if (const auto* number = node.as_integer()) {
    return "the whole number " + to_toml(number->get());
  }
  if (const auto* number = node.as_floating_point()) {
    return "the number " + to_toml(number->get());
  }
  if (const auto* truth = node.as_boolean()) {
    return to_toml(truth->get());
  }
  if (node.is_array()) {
    return "a list";
  }
  return node.is_table() ? "a table" : "a date or time";
}

template <class T>
constexpr bool is_list = false;
template <class T>
constexpr bool is_list<std::vector<T>> = true;

template <class T>
std::optional<T> as_value(const toml::node& node) {
  if constexpr (is_list<T>) {
    const toml::array* array = node.as_array();
    if (array == nullptr) {
      return std::nullopt;
    }
    T values;
    for (const toml::node& element : *array) {
      auto value = as_value<typename T::value_type>(element);
      if (!value) {
        return std::nullopt;
      }
      values.push_back(std::move(*value));
    }
    return values;
  } else if (std::is_same_v<T, double> && node.is_integer()) {
    // value<double> refuses an integer that a double cannot hold exactly.
    return node.value<T>();
  } else {
    return node.value_exact<T>();
  }
}

// The list itself, or the first element of it that is of the wrong type.
template <class T>
std::string found_instead(const toml::node& node) {
  if constexpr (is_list<T>) {
    if (const toml::array* array = node.as_array()) {
      for (const toml::node& element : *array) {
        if (!as_value<typename T::value_type>(element)) {
          return found_kind(element) + " in it";
        }
      }
    }
  }
  return found_kind(node);
}

OptionValue typed_value(
    const OptionField& field, const toml::node& node, const std::string& path) {
  OptionValue result = std::visit(
      [&](const auto& known) -> OptionValue {
        using T = std::decay_t<decltype(known)>;
        if (auto value = as_value<T>(node)) {
          return std::move(*value);
        }
        throw UsageError(
            place(path, node) + ": " + field.key + ": expected " + expected_kind(field.value) +
            ", found " + found_instead<T>(node));
      },
      field.value.read());
  const auto problem = range_problem(field.key, result, OptionRange::any, field.value.choices);
  if (!problem.empty()) {
    throw UsageError(place(path, node) + ": " + problem);
  }
  return result;
}

[[noreturn]] void fail_unknown_key(
    const std::string& key, const std::string& where, const std::deque<OptionField>& fields) {
  std::vector<std::string> known;
  for (const OptionField& field : fields) {
    if (field.in_config) {
      known.push_back(field.key);
    } else if (field.key == key && !field.flag->get_positional()) {
      throw UsageError(
          "'" + key + "' in " + where + " is only a flag, no key; give it as --" +
          field.flag->get_lnames().front());
    }
  }
  throw UsageError(
      "unknown key '" + single_line(key) + "' in " + where + did_you_mean(key, known));
}

bool is_section(const toml::node& node) {
  return node.is_table() || node.is_array_of_tables();
}

toml::table parse_text(std::string_view text, const std::string& path) {
  try {
    return toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    throw UsageError(
        path + " line " + std::to_string(error.source().begin.line) +
        ": no TOML: " + single_line(std::string(error.description())));
  }
}

// What CLI11 gets for a value: the arguments that would say the same on the command line.
std::vector<std::string> as_arguments(const OptionValue& value) {
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    return *texts;
  }
  if (const auto* text = std::get_if<std::string>(&value)) {
    return {*text};
  }
  if (const auto* numbers = std::get_if<std::vector<int64_t>>(&value)) {
    std::vector<std::string> arguments;
    for (const int64_t number : *numbers) {
      arguments.push_back(std::to_string(number));
    }
    return arguments;
  }
  if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    std::vector<std::string> arguments;
    for (const double number : *numbers) {
      arguments.push_back(to_toml(number));
    }
    return arguments;
  }
  return {to_toml(value)};
}

std::string read_bounded(std::istream& input, const std::string& path) {
  std::string text(largest_config + 1, '\0');
  input.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(input.gcount()));
  if (text.size() > largest_config) {
    throw UsageError(path + ": more than 1 MiB, too large for a configuration");
  }
  return text;
}

} // namespace

std::vector<std::pair<std::string, OptionValue>> read_toml(
    std::string_view text, const std::string& path, const std::deque<OptionField>& fields) {
  const toml::table table = parse_text(text, path);
  // toml++ sorts by key; the first problem in the file is the one to report.
  std::vector<std::pair<std::string, const toml::node*>> entries;
  for (const auto& [key, node] : table) {
    entries.emplace_back(std::string(key.str()), &node);
  }
  std::stable_sort(entries.begin(), entries.end(), [](const auto& left, const auto& right) {
    return left.second->source().begin.line < right.second->source().begin.line;
  });
  std::vector<std::pair<std::string, OptionValue>> values;
  for (const auto& entry : entries) {
    const std::string& key = entry.first;
    const toml::node* node = entry.second;
    const std::string where = place(path, *node);
    if (is_section(*node)) {
      throw UsageError(
          where + ": '" + single_line(key) +
          "' is a section; write every key as 'key = value' without sections");
    }
    const auto field = std::find_if(fields.begin(), fields.end(), [&key](const auto& known) {
      return known.in_config && known.key == key;
    });
    if (field == fields.end()) {
      fail_unknown_key(key, where, fields);
    }
    values.emplace_back(key, typed_value(*field, *node, path));
  }
  return values;
}

std::string write_toml(const std::deque<OptionField>& fields, bool with_help) {
  std::ostringstream text;
  std::string group;
  for (const OptionField& field : fields) {
    if (!field.in_config) {
      continue;
    }
    if (with_help && field.group != group) {
      text << (group.empty() ? "" : "\n") << "# " << field.group << "\n";
      group = field.group;
    }
    if (with_help) {
      text << "\n# " << field.help << "\n";
    }
    text << field.key << " = " << to_toml(field.value.read()) << "\n";
  }
  return text.str();
}

std::string TomlConfig::to_config(
    const CLI::App*, bool, bool write_description, std::string) const {
  return write_toml(line_.fields(), write_description);
}

std::vector<CLI::ConfigItem> TomlConfig::from_config(std::istream& input) const {
  const CLI::App& app = *line_.app_;
  if (app.get_help_ptr()->count() > 0 || app.get_version_ptr()->count() > 0) {
    return {};
  }
  const std::string path = line_.config_path();
  std::vector<CLI::ConfigItem> items;
  for (auto& [key, value] : read_toml(read_bounded(input, path), path, line_.fields_)) {
    OptionField& field = *line_.find(key);
    if (field.flag->count() == 0) {
      field.source = OptionSource::file;
    }
    CLI::ConfigItem item;
    item.name = field.flag->get_lnames().front();
    item.inputs = as_arguments(value);
    items.push_back(std::move(item));
  }
  return items;
}

} // namespace moe
