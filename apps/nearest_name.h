#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// The known name that takes the fewest typing errors (a letter left out, added, changed, or
/// two swapped) to become `name`; empty if none is near. `-` and `_` count as equal.
std::string nearest_name(std::string_view name, const std::vector<std::string>& known);

/// "; did you mean 'NAME'?" for the nearest known name, or nothing.
std::string did_you_mean(std::string_view name, const std::vector<std::string>& known);

} // namespace moe
