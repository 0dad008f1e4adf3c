#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "moe/error.h"

namespace moe {

/// What the enumerators of an enumeration are called in options, flags and files, in their
/// order: enumerator 0 has the first name. Specialised beside each enumeration that is an
/// option.
///
/// Example:
/// ```
/// enum class Fruit { apple, pear };
/// template <>
/// inline constexpr std::array<std::string_view, 2> enum_names<Fruit>{"apple", "pear"};
///
/// enum_name(Fruit::pear);                  // "pear"
/// enum_from_name<Fruit>("fruit", "pear");  // Fruit::pear
/// ```
template <class Enum>
inline constexpr std::array<std::string_view, 0> enum_names{};

/// The name of `value`.
template <class Enum>
constexpr std::string_view enum_name(Enum value) {
  return enum_names<Enum>.at(static_cast<size_t>(value));
}

/// All names, in order.
template <class Enum>
std::vector<std::string_view> enum_choices() {
  return {enum_names<Enum>.begin(), enum_names<Enum>.end()};
}

/// "a, b or c".
std::string either_of(const std::vector<std::string_view>& choices);

/// "`option`: 'name' is not possible; a, b or c".
std::string impossible_choice(
    std::string_view option,
    std::string_view name,
    const std::vector<std::string_view>& choices);

/// The place of `name` among `choices`. Throws `Error` "`option`: 'name' is not possible; a, b
/// or c".
size_t choice_index(
    std::string_view option,
    std::string_view name,
    const std::vector<std::string_view>& choices);

/// The enumerator that is called `name`. Throws `Error` naming `option` and the possible names.
template <class Enum>
Enum enum_from_name(std::string_view option, std::string_view name) {
  return static_cast<Enum>(choice_index(option, name, enum_choices<Enum>()));
}

} // namespace moe
