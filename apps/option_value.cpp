#include "apps/option_value.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <type_traits>
#include <utility>

#include "apps/exit_code.h"

namespace moe {
namespace {

template <class T>
std::optional<T> parse_number(std::string_view text) {
  // from_chars knows no plus sign, people do.
  if (text.size() > 1 && text.front() == '+' && text[1] != '-') {
    text.remove_prefix(1);
  }
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return std::nullopt;
  }
  return value;
}

std::optional<bool> parse_bool(std::string_view text) {
  if (text == "true" || text == "on" || text == "yes" || text == "1") {
    return true;
  }
  if (text == "false" || text == "off" || text == "no" || text == "0") {
    return false;
  }
  return std::nullopt;
}

template <class T>
std::optional<std::vector<T>> parse_numbers(const std::vector<std::string>& arguments) {
  std::vector<T> values;
  for (std::string_view rest : arguments) {
    bool more = !rest.empty();
    while (more) {
      const size_t comma = rest.find(',');
      const auto value = parse_number<T>(rest.substr(0, comma));
      if (!value) {
        return std::nullopt;
      }
      values.push_back(*value);
      more = comma != std::string_view::npos;
      rest.remove_prefix(more ? comma + 1 : rest.size());
    }
  }
  return values;
}

std::string quoted_toml(std::string_view text) {
  std::string quoted = "\"";
  size_t position = 0;
  while (position < text.size()) {
    utf8proc_int32_t code_point = -1;
    const auto length = utf8proc_iterate(
        reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + position,
        static_cast<utf8proc_ssize_t>(text.size() - position),
        &code_point);
    check(length > 0, '\'', single_line(std::string(text)), "' is not UTF-8; TOML needs it");
    const auto character = text.substr(position, static_cast<size_t>(length));
    position += character.size();
    if (character == "\"" || character == "\\") {
      (quoted += '\\') += character;
    } else if (character == "\n") {
      quoted += "\\n";
    } else if (character == "\t") {
      quoted += "\\t";
    } else if (code_point < 0x20 || code_point == 0x7F) {
      constexpr std::string_view digits = "0123456789ABCDEF";
      quoted += "\\u00";
      quoted += digits[static_cast<size_t>(code_point) / 16];
      quoted += digits[static_cast<size_t>(code_point) % 16];
    } else {
      quoted += character;
    }
  }
  return quoted + '"';
}

std::string toml_text(bool value) {
  return value ? "true" : "false";
}

std::string toml_text(int64_t value) {
  return std::to_string(value);
}

std::string toml_text(double value) {
  if (std::isnan(value)) {
    return "nan";
  }
  // The shortest digits that read back as the same double; TOML tells a float from an integer
  // by its point or exponent, and names infinity as to_chars does.
  std::array<char, 32> buffer;
  const auto result = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
  std::string text(buffer.data(), result.ptr);
  if (text.find_first_of(".en") == std::string::npos) {
    text += ".0";
  }
  return text;
}

std::string toml_text(const std::string& value) {
  return quoted_toml(value);
}

template <class T>
std::string toml_text(const std::vector<T>& values) {
  std::string text = "[";
  for (const T& value : values) {
    text += text.size() > 1 ? ", " : "";
    text += toml_text(value);
  }
  return text + "]";
}

} // namespace

OptionAccess access_to(const OptionPointer& variable) {
  return std::visit(
      [](auto* pointer) {
        using T = std::remove_pointer_t<decltype(pointer)>;
        return OptionAccess{
            [pointer] { return OptionValue(*pointer); },
            [pointer](const OptionValue& value) { *pointer = std::get<T>(value); },
            {}};
      },
      variable);
}

std::string expected_kind(const OptionAccess& option) {
  constexpr std::array<const char*, 7> kinds = {
      "true or false",
      "a whole number",
      "a number",
      "a text",
      "a list of whole numbers",
      "a list of texts",
      "a list of numbers"};
  return option.choices.empty() ? kinds[option.read().index()] : either_of(option.choices);
}

std::string type_hint(const OptionAccess& option) {
  constexpr std::array<const char*, 7> hints = {
      "", "INT", "NUMBER", "TEXT", "INT,...", "TEXT", "NUMBER,..."};
  return hints[option.read().index()];
}

OptionValue parse_option(
    std::string_view name,
    const OptionAccess& option,
    const std::vector<std::string>& arguments) {
  const OptionValue type = option.read();
  if (std::holds_alternative<std::vector<std::string>>(type)) {
    return arguments;
  }
  const std::string last = arguments.empty() ? std::string() : arguments.back();
  std::optional<OptionValue> value;
  if (std::holds_alternative<std::vector<int64_t>>(type)) {
    value = parse_numbers<int64_t>(arguments);
  } else if (std::holds_alternative<std::vector<double>>(type)) {
    value = parse_numbers<double>(arguments);
  } else if (std::holds_alternative<std::string>(type)) {
    const auto& choices = option.choices;
    const bool possible =
        choices.empty() || std::find(choices.begin(), choices.end(), last) != choices.end();
    value = possible ? std::optional<OptionValue>(last) : std::nullopt;
  } else if (!arguments.empty() && std::holds_alternative<bool>(type)) {
    value = parse_bool(last);
  } else if (!arguments.empty() && std::holds_alternative<int64_t>(type)) {
    value = parse_number<int64_t>(last);
  } else if (!arguments.empty()) {
    value = parse_number<double>(last);
  }
  if (!value) {
    const bool is_list = std::holds_alternative<std::vector<int64_t>>(type) ||
                         std::holds_alternative<std::vector<double>>(type);
    // Of a flag with one value that is given twice the last one counts.
    const std::string found = is_list ? fmt::format("{}", fmt::join(arguments, " ")) : last;
    throw UsageError(
        std::string(name) + ": '" + found + "' is not possible; " + expected_kind(option));
  }
  return *value;
}

std::string to_toml(const OptionValue& value) {
  return std::visit([](const auto& known) { return toml_text(known); }, value);
}

} // namespace moe
