#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "moe/option_table.h"

namespace moe {

/// Points to a variable that a flag of a program sets, in the order of `OptionValue`.
using OptionPointer = std::variant<
    bool*,
    int64_t*,
    double*,
    std::string*,
    std::vector<int64_t>*,
    std::vector<std::string>*,
    std::vector<double>*>;

/// Where the value of an option is, and which texts it may be.
struct OptionAccess {
  std::function<OptionValue()> read;
  /// The value must be of the type that `read` gives.
  std::function<void(const OptionValue&)> write;
  std::vector<std::string_view> choices; ///< empty: any
};

/// Access to the variable, which must outlive it.
OptionAccess access_to(const OptionPointer& variable);

/// Access to the option of `row` in `options`; both must outlive it.
template <class Options>
OptionAccess access_to(const OptionRow<Options>& row, Options& options) {
  return {
      [&row, &options] { return row.read(options); },
      [&row, &options](const OptionValue& value) { row.write(options, value); },
      row.traits.choices};
}

/// What may be given, for messages: "true or false", "a whole number", "a number", "a text",
/// "a list of whole numbers", "a list of texts", "a list of numbers"; or the choices.
std::string expected_kind(const OptionAccess& option);

/// The type's short name in the help: "", INT, NUMBER, TEXT, "INT,...", TEXT, "NUMBER,...".
std::string type_hint(const OptionAccess& option);

/// Reads a value of the option's type from the arguments of one flag. Scalars take the last
/// argument; lists of numbers may be written with commas (`0,1`, or an empty argument for
/// none); other lists take one element per argument, verbatim.
///
/// Throws `UsageError` "`name`: 'abc' is not possible; a whole number".
OptionValue parse_option(
    std::string_view name,
    const OptionAccess& option,
    const std::vector<std::string>& arguments);

/// The value as TOML: reading it gives the same value back, to the last bit of a double.
///
/// Throws `Error` where that is not possible: text that is not UTF-8.
std::string to_toml(const OptionValue& value);

} // namespace moe
