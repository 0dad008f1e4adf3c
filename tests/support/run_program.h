#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace moe::testing {

/// How a program is started.
struct ProgramSettings {
  std::string input = {}; ///< its stdin
  /// Added to the environment of the test.
  std::vector<std::pair<std::string, std::string>> environment = {};
  std::optional<uint64_t> largest_file = {}; ///< bytes: a disk that is full
  double seconds = 120.0;                    ///< then it is killed
};

/// What a program did.
struct ProgramResult {
  int exit_code = -1; ///< -1 if a signal ended it
  int signal = 0;     ///< the signal that ended it, if one did
  bool timed_out = false;
  std::string out; ///< its stdout
  std::string err; ///< its stderr
};

/// A program that runs beside the test, and is killed if the test does not wait for it.
///
/// Example:
/// ```
/// RunningProgram program({"/bin/cat"}, {.input = "text"});
/// program.send(SIGTERM);
/// CHECK(program.wait().signal == SIGTERM);
/// ```
class RunningProgram {
 public:
  /// `command` is the path of the program and its arguments.
  explicit RunningProgram(
      const std::vector<std::string>& command, const ProgramSettings& settings = {});
  ~RunningProgram();
  RunningProgram(const RunningProgram&) = delete;
  RunningProgram& operator=(const RunningProgram&) = delete;

  void send(int signal) const;

  /// Waits until stderr has `text`; whether it came before the program's end.
  bool wait_for_error_text(const std::string& text);

  /// Whether it has not ended yet.
  bool running();

  /// Waits for the end.
  ProgramResult wait();

 private:
  struct Pipe {
    int descriptor = -1;
    std::string* text = nullptr;
  };

  /// Moves what there is between the pipes and the texts; waits a moment for it.
  void transfer(int milliseconds);
  void feed();
  void drain(Pipe& pipe);
  bool past_deadline() const;
  void close_all();

  pid_t process_ = -1;
  std::string input_;
  int input_descriptor_ = -1;
  Pipe out_;
  Pipe err_;
  ProgramResult result_;
  double deadline_ = 0.0;
  bool ended_ = false;
};

/// Runs a program to its end.
ProgramResult run_program(
    const std::vector<std::string>& command, const ProgramSettings& settings = {});

} // namespace moe::testing
