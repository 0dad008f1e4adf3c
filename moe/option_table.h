#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "moe/enum_names.h"

namespace moe {

/// The value of one option. An enumeration's is its name.
using OptionValue = std::variant<
    bool,
    int64_t,
    double,
    std::string,
    std::vector<int64_t>,
    std::vector<std::string>,
    std::vector<double>>;

/// Which numbers an option, or each element of a list, may be.
enum class OptionRange {
  any,
  finite,
  at_least_0, ///< finite, too
  at_least_1,
  above_0,        ///< finite, too
  from_0_below_1, ///< 0 <= x < 1
  from_0_to_1,    ///< 0 <= x <= 1
  above_0_to_1,   ///< 0 < x <= 1
};

/// What computes with values of an option that are not its default.
enum class OptionSupport {
  modules, ///< the modules only
  packed,  ///< packed weights as well (see `packing_obstacle`)
  plain,   ///< models that have it are still plain (see `has_plain_form`), and packed
};

/// What is known of an option besides its name.
template <class Form>
struct OptionTraits {
  OptionRange range = OptionRange::any;
  std::vector<std::string_view> choices = {}; ///< which texts are possible; empty: any
  /// Whether the option has an effect, given the others of its form; none: always.
  std::function<bool(const Form&)> matters = nullptr;
  OptionSupport support = OptionSupport::modules;
  bool training_only = false; ///< whatever it is, a trained model computes the same
};

/// One option: a member of the struct `Form`, its name in files and flags, and what is known of
/// it. Flags, TOML, JSON, help, checks and comparisons all follow from this row.
template <class Form>
struct OptionRow {
  std::string key;  ///< in TOML and JSON; the flag is `--` and this with `-` for `_`
  std::string help; ///< one sentence or two
  std::function<OptionValue(const Form&)> read;
  /// Throws `Error` for a text that names no enumerator. The value must be of the option's
  /// type.
  std::function<void(Form&, const OptionValue&)> write;
  OptionTraits<Form> traits; ///< of an enumeration, its names are the choices
};

/// The options of a struct, in the order of files and help.
template <class Form>
using OptionTable = std::vector<OptionRow<Form>>;

/// The table of a struct, specialised beside each struct that has one.
template <class Form>
const OptionTable<Form>& option_table();

/// The row of `member`.
///
/// Example:
/// ```
/// struct Oven {
///   double heat = 200.0;
/// };
/// const OptionTable<Oven> table = {
///     option("heat", &Oven::heat, "Degrees.", {.range = OptionRange::above_0})};
/// ```
template <class Form, class Value>
OptionRow<Form> option(
    std::string key,
    Value Form::*member,
    std::string help,
    std::type_identity_t<OptionTraits<Form>> traits = {}) {
  OptionRow<Form> row{std::move(key), std::move(help), {}, {}, std::move(traits)};
  if constexpr (std::is_enum_v<Value>) {
    row.traits.choices = enum_choices<Value>();
    row.read = [member](const Form& form) { return std::string(enum_name(form.*member)); };
    row.write = [member, name = row.key](Form& form, const OptionValue& value) {
      form.*member = enum_from_name<Value>(name, std::get<std::string>(value));
    };
  } else {
    row.read = [member](const Form& form) { return OptionValue(form.*member); };
    row.write = [member](Form& form, const OptionValue& value) {
      form.*member = std::get<Value>(value);
    };
  }
  return row;
}

/// Appends the options of a form that is a member of `Whole` to the table of `Whole`.
template <class Whole, class Form>
void append_options(OptionTable<Whole>& table, Form Whole::*member) {
  for (const OptionRow<Form>& row : option_table<Form>()) {
    OptionRow<Whole> copy;
    copy.key = row.key;
    copy.help = row.help;
    copy.read = [member, &row](const Whole& whole) { return row.read(whole.*member); };
    copy.write = [member, &row](Whole& whole, const OptionValue& value) {
      row.write(whole.*member, value);
    };
    copy.traits.range = row.traits.range;
    copy.traits.choices = row.traits.choices;
    copy.traits.support = row.traits.support;
    copy.traits.training_only = row.traits.training_only;
    if (row.traits.matters) {
      copy.traits.matters = [member, &row](const Whole& whole) {
        return row.traits.matters(whole.*member);
      };
    }
    table.push_back(std::move(copy));
  }
}

/// Puts `rows` behind the option `key`, which must be there.
template <class Form>
void insert_options_after(
    OptionTable<Form>& table, std::string_view key, const OptionTable<Form>& rows) {
  const auto found = std::find_if(
      table.begin(), table.end(), [key](const auto& row) { return row.key == key; });
  check(found != table.end(), key, ": no such option to put others behind");
  table.insert(std::next(found), rows.begin(), rows.end());
}

/// Gives options that have no effect their default value.
template <class Form>
void reset_unused(Form& form) {
  const Form defaults;
  for (const OptionRow<Form>& row : option_table<Form>()) {
    if (row.traits.matters && !row.traits.matters(form)) {
      row.write(form, row.read(defaults));
    }
  }
}

/// The default options with those of `form` that `takes(row)` says.
template <class Form, class Takes>
Form keep_options(const Form& form, const Takes& takes) {
  Form kept;
  for (const OptionRow<Form>& row : option_table<Form>()) {
    if (takes(row)) {
      row.write(kept, row.read(form));
    }
  }
  return kept;
}

/// "key: value is not possible; a number above 0" where a number is out of `range`, or
/// "key: 'text' is not possible; a or b" where a text is not among `choices`; else empty.
std::string range_problem(
    std::string_view key,
    const OptionValue& value,
    OptionRange range,
    const std::vector<std::string_view>& choices);

/// What is wrong with the first value of the form that is not possible by itself; empty if none
/// is.
template <class Form>
std::string range_problem(const Form& form) {
  for (const OptionRow<Form>& row : option_table<Form>()) {
    auto problem = range_problem(row.key, row.read(form), row.traits.range, row.traits.choices);
    if (!problem.empty()) {
      return problem;
    }
  }
  return {};
}

/// The value as text: a list's elements with spaces between, numbers with 12 digits, which
/// survive a reciprocal and back.
std::string option_text(const OptionValue& value);

} // namespace moe
