#include "apps/exit_code.h"

#include <csignal>
#include <cstdio>
#include <new>

#include "apps/output.h"

namespace moe {
namespace {

int report(const std::string& program, const std::string& message, int code) {
  std::fprintf(stderr, "%s: error: %s\n", program.c_str(), single_line(message).c_str());
  return code;
}

int run_body(
    const std::string& program,
    const std::function<int()>& body,
    const ErrorDescriber& describe) {
  try {
    return body();
  } catch (const UsageError& error) {
    return report(program, error.what(), exit_usage);
  } catch (const std::bad_alloc&) {
    return report(program, "not enough memory", exit_failure);
  } catch (const std::exception& error) {
    const auto described = describe ? describe(error) : std::nullopt;
    return report(program, described.value_or(error.what()), exit_failure);
  }
}

} // namespace

int run_main(
    const std::string& program,
    const std::function<int()>& body,
    const ErrorDescriber& describe) {
  // A closed pipe and a file that may not grow are errors to report, not the end of the
  // program.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  const auto guarded = [&]() -> int {
    try {
      return body();
    } catch (const EarlyExit& exit) {
      write_stdout(exit.text);
      return exit_success;
    }
  };
  try {
    return run_body(program, guarded, describe);
  } catch (const OutputClosed&) {
    return exit_output_closed;
  } catch (...) {
    return report(program, "an exception of unknown type", exit_failure);
  }
}

std::string single_line(const std::string& text) {
  std::string line;
  for (const char c : text) {
    if (c == '\n' || c == '\t') {
      line += ' ';
    } else if (c != '\r') {
      const auto byte = static_cast<unsigned char>(c);
      line += byte < 0x20 || byte == 0x7F ? '?' : c;
    }
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

} // namespace moe
