#include "moe/enum_names.h"

namespace moe {

std::string either_of(const std::vector<std::string_view>& choices) {
  std::string list;
  for (size_t i = 0; i < choices.size(); ++i) {
    list += i == 0 ? "" : i + 1 == choices.size() ? " or " : ", ";
    list += choices[i];
  }
  return list;
}

std::string impossible_choice(
    std::string_view option,
    std::string_view name,
    const std::vector<std::string_view>& choices) {
  return std::string(option) + ": '" + std::string(name) + "' is not possible; " +
         either_of(choices);
}

size_t choice_index(
    std::string_view option,
    std::string_view name,
    const std::vector<std::string_view>& choices) {
  for (size_t i = 0; i < choices.size(); ++i) {
    if (choices[i] == name) {
      return i;
    }
  }
  fail(impossible_choice(option, name, choices));
}

} // namespace moe
