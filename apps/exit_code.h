#pragma once

#include <exception>
#include <functional>
#include <optional>
#include <string>

#include "moe/error.h"

namespace moe {

/// Exit codes of every program; a signal n after saving is 128 + n.
enum ExitCode : int {
  exit_success = 0,
  exit_failure = 1,
  exit_usage = 2,
  /// What the shell shows of a program whose reader went away, as in `moe-generate | head -1`.
  exit_output_closed = 141,
};

/// The command line or the configuration is wrong: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Ends a program successfully with `text` on stdout (`--help`, `--version`, `--print-config`).
struct EarlyExit {
  std::string text;
};

/// Turns an exception that only LibTorch's headers know into one message; nothing for others.
using ErrorDescriber = std::function<std::optional<std::string>(const std::exception&)>;

/// Runs a program: returns what `body` returns, or turns what it throws into one line on
/// stderr, `moe-train: error: ...`, and the exit code. A closed stdout ends the program
/// quietly.
///
/// Example:
/// ```
/// int main(int argc, char** argv) {
///   return moe::run_main(
///       "moe-train", [&] { return train(argc, argv); }, moe::describe_libtorch_error);
/// }
/// ```
int run_main(
    const std::string& program,
    const std::function<int()>& body,
    const ErrorDescriber& describe = {});

/// `text` on one line: line ends become spaces and other control characters `?`.
std::string single_line(const std::string& text);

} // namespace moe
