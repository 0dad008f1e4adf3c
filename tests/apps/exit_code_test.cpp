#include "apps/exit_code.h"

#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <limits>
#include <new>
#include <string>
#include <vector>

#include "apps/json_output.h"
#include "apps/line_editor.h"
#include "apps/output.h"
#include "apps/signals.h"
#include "apps/terminal.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

struct Ended {
  int code = -1;
  int signal = 0;
  std::string output;
};

std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 4096> buffer;
  for (ssize_t count = 0; (count = ::read(descriptor, buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<size_t>(count));
  }
  ::close(descriptor);
  return text;
}

Ended wait_for(pid_t child, int output) {
  Ended ended;
  ended.output = read_all(output);
  int status = 0;
  ::waitpid(child, &status, 0);
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  ended.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return ended;
}

// Runs `body` as a program of its own; its stdout and stderr are kept together.
Ended run_program(const std::function<int()>& body, const ErrorDescriber& describe = {}) {
  std::array<int, 2> pipe = {};
  REQUIRE(::pipe(pipe.data()) == 0);
  std::cout.flush();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe[1], STDOUT_FILENO);
    ::dup2(pipe[1], STDERR_FILENO);
    ::close(pipe[0]);
    ::close(pipe[1]);
    ::_exit(run_main("moe-test", body, describe));
  }
  ::close(pipe[1]);
  return wait_for(child, pipe[0]);
}

// libedit shows its prompt just before it takes the keys over from the terminal.
void wait_for_editing(int terminal) {
  termios mode = {};
  do {
    ::usleep(1000);
    REQUIRE(::tcgetattr(terminal, &mode) == 0);
  } while ((mode.c_lflag & ICANON) != 0);
}

// Containers and bare roots may lack /dev/pts; a test says then that it was left out.
bool can_open_terminal() {
  int terminal = -1;
  int other = -1;
  if (::openpty(&terminal, &other, nullptr, nullptr, nullptr) != 0) {
    WARN("skipped: no pseudo-terminal can be opened here");
    return false;
  }
  ::close(terminal);
  ::close(other);
  return true;
}

// The same on a terminal where a person answers each prompt with the next of `answers`.
Ended run_on_terminal(
    const std::string& prompt,
    const std::vector<std::string>& answers,
    const std::function<int()>& body) {
  std::cout.flush();
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  if (child == 0) {
    ::setenv("TERM", "xterm", 1);
    ::alarm(20);
    ::_exit(run_main("moe-test", body));
  }
  std::string before;
  for (const std::string& answer : answers) {
    std::string seen;
    while (seen.find(prompt) == std::string::npos) {
      char next = 0;
      REQUIRE(::read(terminal, &next, 1) == 1);
      seen += next;
    }
    before += seen;
    wait_for_editing(terminal);
    REQUIRE(::write(terminal, answer.data(), answer.size()) == ssize_t(answer.size()));
  }
  Ended ended = wait_for(child, terminal);
  ended.output = before + ended.output;
  return ended;
}

} // namespace

TEST_CASE("run_main: errors become one line and an exit code", "[apps]") {
  const auto thrown = [](const auto& error) {
    return run_program([&error]() -> int { throw error; });
  };
  CHECK(run_program([] { return 130; }).code == 130);
  CHECK(thrown(UsageError("--x: bad")).code == 2);
  CHECK(thrown(UsageError("--x: bad")).output == "moe-test: error: --x: bad\n");
  CHECK(thrown(Error("a\nb\033[1m")).code == 1);
  CHECK(thrown(Error("a\nb\033[1m")).output == "moe-test: error: a b?[1m\n");
  CHECK(thrown(std::bad_alloc()).output == "moe-test: error: not enough memory\n");
  CHECK(thrown(3).code == 1);
  CHECK(thrown(EarlyExit{"text\n"}).code == 0);
  CHECK(thrown(EarlyExit{"text\n"}).output == "text\n");
}

TEST_CASE("run_main: an error of LibTorch is described by the program", "[apps]") {
  const auto describe = [](const std::exception&) {
    return std::optional<std::string>("short");
  };
  const auto body = []() -> int { throw std::out_of_range("long"); };
  CHECK(run_program(body, describe).output == "moe-test: error: short\n");
  CHECK(run_program(body).output == "moe-test: error: long\n");
}

TEST_CASE("stdout: a reader that goes away ends the program quietly", "[apps]") {
  const Ended ended = run_program([] {
    std::array<int, 2> pipe = {};
    if (::pipe(pipe.data()) != 0) {
      return 99;
    }
    ::close(pipe[0]);
    ::dup2(pipe[1], STDOUT_FILENO);
    write_stdout("text");
    return 0;
  });
  CHECK(ended.code == exit_output_closed);
  CHECK(ended.output.empty());
}

TEST_CASE("stdout: a full disk is an error", "[apps]") {
  const Ended ended = run_program([] {
    ::dup2(::open("/dev/full", O_WRONLY), STDOUT_FILENO);
    write_stdout("text");
    return 0;
  });
  CHECK(ended.code == 1);
  CHECK_THAT(ended.output, ContainsSubstring("stdout: cannot write: No space left"));
}

TEST_CASE("signals: the first is noted, the second ends the program", "[apps]") {
  const int signal = GENERATE(SIGINT, SIGTERM);
  CAPTURE(signal);
  const auto once = [signal] {
    install_stop_signals();
    std::raise(signal);
    return stop_signal() == signal ? signal_exit_code(signal) : 99;
  };
  CHECK(run_program(once).code == 128 + signal);
  // Also when the second is of the other kind.
  const auto twice = [signal] {
    install_stop_signals();
    std::raise(signal);
    std::raise(SIGTERM);
    return 99;
  };
  CHECK(run_program(twice).signal == SIGTERM);
}

TEST_CASE("signals: once removed, none is noted and the next ends the program", "[apps]") {
  const auto noted = [] {
    install_stop_signals();
    std::raise(SIGINT);
    remove_stop_signals();
    return stop_signal();
  };
  CHECK(run_program(noted).code == 0);
  const auto removed = [] {
    install_stop_signals();
    remove_stop_signals();
    std::raise(SIGINT);
    return 99;
  };
  CHECK(run_program(removed).signal == SIGINT);
  const auto again = [] {
    install_stop_signals();
    remove_stop_signals();
    install_stop_signals();
    std::raise(SIGINT);
    return stop_signal() == SIGINT ? 0 : 99;
  };
  CHECK(run_program(again).code == 0);
}

TEST_CASE("json: doubles are exact, what JSON lacks is null", "[apps]") {
  nlohmann::ordered_json value;
  value["z"] = 0.1;
  value["a"] = std::numeric_limits<double>::quiet_NaN();
  value["b"] = -std::numeric_limits<double>::infinity();
  value["c"] = "ü\xff";
  value["d"] = 1.0 / 3.0;
  CHECK(
      json_line(value) ==
      "{\"z\":0.1,\"a\":null,\"b\":null,\"c\":\"ü\uFFFD\",\"d\":0.3333333333333333}\n");
}

TEST_CASE("colours: only on a terminal, and NO_COLOR turns them off", "[apps]") {
  if (!can_open_terminal()) {
    return;
  }
  const auto colours = [] { return use_colours(STDERR_FILENO) ? 1 : 0; };
  CHECK(run_program(colours).code == 0);
  ::unsetenv("NO_COLOR");
  CHECK(run_on_terminal("", {}, colours).code == 1);
  ::setenv("NO_COLOR", "1", 1);
  CHECK(run_on_terminal("", {}, colours).code == 0);
  ::unsetenv("NO_COLOR");
}

TEST_CASE("line editor: without a terminal it reads plain lines", "[apps]") {
  const TemporaryFolder folder;
  const std::string input = folder.write("input", "one\r\n\ntwo");
  const Ended ended = run_program([&] {
    ::dup2(::open(input.c_str(), O_RDONLY), STDIN_FILENO);
    std::cin.clear();
    LineEditor editor("> ", folder.path() / "history");
    while (const auto line = editor.read_line()) {
      write_stdout("<" + *line + ">");
    }
    return 0;
  });
  CHECK(ended.code == 0);
  CHECK(ended.output == "<one><><two>");
  CHECK_FALSE(std::filesystem::exists(folder.path() / "history"));
}

TEST_CASE("line editor: on a terminal lines can be edited and called back", "[apps]") {
  if (!can_open_terminal()) {
    return;
  }
  const TemporaryFolder folder;
  const auto history = folder.path() / "state" / "history";
  const auto loop = [&] {
    LineEditor editor("prompt> ", history);
    while (const auto line = editor.read_line()) {
      write_stdout("<" + *line + ">");
    }
    return 0;
  };
  const Ended first = run_on_terminal("prompt> ", {"first lime\x7f\x7fne\n", "\x04"}, loop);
  CHECK(first.code == 0);
  CHECK_THAT(first.output, ContainsSubstring("<first line>"));
  CHECK_THAT(first.output, ContainsSubstring("prompt> "));
  // Control-P is the line before this one, here that of the earlier program.
  const Ended second = run_on_terminal("prompt> ", {"\x10\n", "\x04"}, loop);
  CHECK_THAT(second.output, ContainsSubstring("<first line>"));
}

TEST_CASE("line editor: a history that cannot be written is left out", "[apps]") {
  if (!can_open_terminal()) {
    return;
  }
  const Ended ended = run_on_terminal("> ", {"text\n", "\x04"}, [] {
    LineEditor editor("> ", "/dev/null/history");
    while (const auto line = editor.read_line()) {
      write_stdout("<" + *line + ">");
    }
    return 0;
  });
  CHECK(ended.code == 0);
  CHECK_THAT(ended.output, ContainsSubstring("<text>"));
}

TEST_CASE("line editor: the history follows the XDG folders", "[apps]") {
  ::setenv("XDG_STATE_HOME", "/state", 1);
  CHECK(default_history_file() == "/state/moe/history");
  ::setenv("XDG_STATE_HOME", "relative", 1);
  ::setenv("HOME", "/home/x", 1);
  CHECK(default_history_file() == "/home/x/.local/state/moe/history");
  ::unsetenv("XDG_STATE_HOME");
  ::unsetenv("HOME");
  CHECK(default_history_file().empty());
}
