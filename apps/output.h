#pragma once

#include <string_view>

namespace moe {

/// Thrown by `write_stdout` when the reader of a pipe has gone away.
struct OutputClosed {};

/// Writes results to stdout at once, without a buffer.
///
/// Throws `OutputClosed` when nobody reads them any more and `Error` when they cannot be
/// written (a full disk). `run_main` deals with both.
void write_stdout(std::string_view text);

} // namespace moe
