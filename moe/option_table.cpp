#include "moe/option_table.h"

#include <cmath>
#include <sstream>

namespace moe {
namespace {

struct RangeRule {
  bool (*holds)(double);
  const char* whole;  ///< what a whole number must be
  const char* number; ///< what a number must be
};

RangeRule rule_of(OptionRange range) {
  switch (range) {
    case OptionRange::any:
      return {[](double) { return true; }, "", ""};
    case OptionRange::finite:
      return {[](double x) { return std::isfinite(x); }, "", "a finite number"};
    case OptionRange::at_least_0:
      return {
          [](double x) { return std::isfinite(x) && x >= 0.0; },
          "at least 0",
          "a number of at least 0"};
    case OptionRange::at_least_1:
      return {
          [](double x) { return std::isfinite(x) && x >= 1.0; },
          "at least 1",
          "a number of at least 1"};
    case OptionRange::above_0:
      return {
          [](double x) { return std::isfinite(x) && x > 0.0; }, "above 0", "a number above 0"};
    case OptionRange::from_0_below_1:
      return {[](double x) { return x >= 0.0 && x < 1.0; }, "0", "a number from 0 to below 1"};
    case OptionRange::from_0_to_1:
      return {[](double x) { return x >= 0.0 && x <= 1.0; }, "0 or 1", "a number from 0 to 1"};
    case OptionRange::above_0_to_1:
      return {[](double x) { return x > 0.0 && x <= 1.0; }, "1", "a number above 0, up to 1"};
  }
  fail("no such range");
}

template <class Number>
std::string number_problem(std::string_view key, Number value, OptionRange range) {
  const RangeRule rule = rule_of(range);
  if (rule.holds(static_cast<double>(value))) {
    return {};
  }
  std::ostringstream text;
  text << key << ": " << value << " is not possible; "
       << (std::is_integral_v<Number> ? rule.whole : rule.number);
  return text.str();
}

template <class Value>
constexpr bool is_list = false;
template <class Element>
constexpr bool is_list<std::vector<Element>> = true;

void append_text(std::ostringstream& text, bool value) {
  text << (value ? "true" : "false");
}

template <class Value>
void append_text(std::ostringstream& text, const Value& value) {
  if constexpr (is_list<Value>) {
    for (size_t i = 0; i < value.size(); ++i) {
      text << (i > 0 ? " " : "") << value[i];
    }
  } else {
    text << value;
  }
}

} // namespace

std::string range_problem(
    std::string_view key,
    const OptionValue& value,
    OptionRange range,
    const std::vector<std::string_view>& choices) {
  if (const auto* text = std::get_if<std::string>(&value)) {
    const bool possible =
        choices.empty() || std::find(choices.begin(), choices.end(), *text) != choices.end();
    return possible ? "" : impossible_choice(key, *text, choices);
  }
  if (const auto* whole = std::get_if<int64_t>(&value)) {
    return number_problem(key, *whole, range);
  }
  if (const auto* number = std::get_if<double>(&value)) {
    return number_problem(key, *number, range);
  }
  std::string problem;
  if (const auto* wholes = std::get_if<std::vector<int64_t>>(&value)) {
    for (size_t i = 0; i < wholes->size() && problem.empty(); ++i) {
      problem = number_problem(key, (*wholes)[i], range);
    }
  } else if (const auto* numbers = std::get_if<std::vector<double>>(&value)) {
    for (size_t i = 0; i < numbers->size() && problem.empty(); ++i) {
      problem = number_problem(key, (*numbers)[i], range);
    }
  }
  return problem;
}

std::string option_text(const OptionValue& value) {
  std::ostringstream text;
  text.precision(12);
  std::visit([&](const auto& known) { append_text(text, known); }, value);
  return text.str();
}

} // namespace moe
