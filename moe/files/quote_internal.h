#pragma once

// Private to the library: not installed.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// Text from a file as part of a one-line message: in single quotes, control characters as
/// \x0a, cut after 100 bytes.
std::string quote(std::string_view text);

/// A shape as part of a message: [2, 3].
std::string shape_text(const std::vector<int64_t>& shape);

} // namespace moe
