#pragma once

// Checks shared by the validate() functions of the options structs. Not installed.

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "moe/error.h"

namespace moe {

/// "name: value is not possible; allowed".
template <class Value>
void check_option(
    bool possible, const char* name, const Value& value, std::string_view allowed) {
  check(possible, name, ": ", value, " is not possible; ", allowed);
}

inline void check_at_least(int64_t least, const char* name, int64_t value) {
  check_option(value >= least, name, value, "at least " + std::to_string(least));
}

inline void check_number_above_zero(const char* name, double value) {
  check_option(std::isfinite(value) && value > 0.0, name, value, "a number above 0");
}

inline void check_number_not_negative(const char* name, double value) {
  check_option(std::isfinite(value) && value >= 0.0, name, value, "a number of at least 0");
}

inline void check_one_of(
    std::initializer_list<std::string_view> allowed, const char* name, std::string_view value) {
  std::string list;
  size_t position = 0;
  for (const std::string_view choice : allowed) {
    if (value == choice) {
      return;
    }
    ++position;
    list += position == 1 ? "" : position == allowed.size() ? " or " : ", ";
    list += choice;
  }
  fail(name, ": '", value, "' is not possible; ", list);
}

} // namespace moe
