#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace moe {

/// The value of one option: every type that a field of an options struct may have.
using OptionValue = std::variant<
    bool,
    int64_t,
    double,
    std::string,
    std::vector<int64_t>,
    std::vector<std::string>,
    std::vector<double>>;

/// Points to the field of an options struct, in the order of `OptionValue`.
using OptionPointer = std::variant<
    bool*,
    int64_t*,
    double*,
    std::string*,
    std::vector<int64_t>*,
    std::vector<std::string>*,
    std::vector<double>*>;

/// The value that the field has now.
OptionValue read_option(const OptionPointer& field);

/// Sets the field; both must be of the same type.
void write_option(const OptionPointer& field, OptionValue value);

/// What may be given, for messages: "true or false", "a whole number", "a number", "a text",
/// "a list of whole numbers", "a list of texts", "a list of numbers".
std::string expected_kind(const OptionPointer& field);

/// The type's short name in the help: "", INT, NUMBER, TEXT, "INT,...", TEXT, "NUMBER,...".
std::string type_hint(const OptionPointer& field);

/// Reads a value of the field's type from the arguments of one flag. Scalars take the last
/// argument; lists of numbers may be written with commas (`0,1`, or an empty argument for
/// none); other lists take one element per argument, verbatim.
///
/// Throws `UsageError` "`name`: 'abc' is not possible; a whole number".
OptionValue parse_option(
    std::string_view name,
    const OptionPointer& field,
    const std::vector<std::string>& arguments);

/// The value as TOML: reading it gives the same value back, to the last bit of a double.
///
/// Throws `Error` where that is not possible: text that is not UTF-8.
std::string to_toml(const OptionValue& value);

} // namespace moe
