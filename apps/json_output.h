#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace moe {

/// The object that a program's `--json` prints: one line with a line end, keys in the order
/// they were set. Doubles read back as the same value; NaN and infinities, which JSON does not
/// have, become null; bytes that are not UTF-8 become U+FFFD.
///
/// Example:
/// ```
/// nlohmann::ordered_json result;
/// result["loss"] = 3.1;
/// write_stdout(json_line(result));
/// ```
std::string json_line(const nlohmann::ordered_json& value);

} // namespace moe
