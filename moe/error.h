#pragma once

#include <sstream>
#include <stdexcept>

namespace moe {

/// Thrown by everything in this library that works without tensors (files, text, options).
/// The message is one line that names the file or option, what was found and what would be
/// right. Modules and tensor functions throw `c10::Error` through `TORCH_CHECK` instead.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws `Error` with the streamed parts as its message.
///
/// Example:
/// ```
/// fail(path, ": expected a JSON object, found ", kind);
/// ```
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(message.str());
}

/// Throws `Error` with the streamed parts unless `condition` holds.
template <class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) {
    fail(parts...);
  }
}

} // namespace moe
