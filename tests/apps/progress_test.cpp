#include "apps/progress.h"

#include <limits>

#include "apps/status_line.h"
#include "apps/terminal.h"
#include "tests/support/catch.h"

using namespace moe;
using namespace std::chrono_literals;

namespace {

constexpr const char* clear_line = "\r\033[K";

// A terminal of 60 columns (or a file) with a clock that stands still.
struct FakeTerminal {
  explicit FakeTerminal(bool live) {
    target.write = [this](std::string_view text) { written += text; };
    target.live = live;
    target.width = [] { return 60; };
    target.now = [this] { return time; };
  }
  std::string take() {
    return std::exchange(written, "");
  }
  StatusTarget target;
  std::string written;
  std::chrono::steady_clock::time_point time{};
};

const ProgressUpdate at_120{120, 3.21456, 5123.0, 0.314};

} // namespace

TEST_CASE("terminal: columns are counted by character", "[apps]") {
  CHECK(display_width("abc") == 3);
  CHECK(display_width("größe") == 5);
  CHECK(display_width("日本") == 4);
  CHECK(display_width("e\u0301") == 1);
  CHECK(display_width("\033[32mab\033[0m") == 2);
  CHECK(display_width("a\xff") == 2);
}

TEST_CASE("terminal: text is cut between characters and keeps its colour codes", "[apps]") {
  CHECK(fit_columns("größe", 3) == "grö");
  CHECK(fit_columns("日本語", 5) == "日本");
  CHECK(fit_columns("日本x", 3) == "日");
  CHECK(fit_columns("e\u0301x", 1) == "e\u0301");
  CHECK(fit_columns("\033[32mabc\033[0m", 2) == "\033[32mab\033[0m");
  CHECK(fit_columns("abc", 0).empty());
}

TEST_CASE("progress: the bar fits every width", "[apps]") {
  CHECK(
      progress_bar(at_120, 1000, 133.0, 100, false) ==
      "step 120/1000 [==>                         ]  loss 3.2146  5.1k tokens/s  balance 0.31  "
      "2:13 left");
  CHECK(progress_bar(at_120, 1000, 133.0, 30, false) == "step 120/1000  loss 3.2146");
  for (const bool colours : {false, true}) {
    for (int width = 1; width <= 120; ++width) {
      CAPTURE(width);
      CHECK(display_width(progress_bar(at_120, 1000, 133.0, width, colours)) <= width);
    }
  }
}

TEST_CASE("progress: begin, end and numbers that are none", "[apps]") {
  CHECK_THAT(
      progress_bar({0, 1.0, 0.0, {}}, 10, -1.0, 60, false),
      ContainsSubstring("0/10 [        "));
  CHECK_THAT(
      progress_bar({10, 1.0, 0.0, {}}, 10, 0.0, 60, false), ContainsSubstring("======]"));
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(progress_line({3, nan, nan, {}}, 10, -1.0) == "step 3/10  loss nan  ? tokens/s");
  CHECK(
      progress_line(at_120, 1000, 0.4) ==
      "step 120/1000  loss 3.2146  5.1k tokens/s  balance 0.31  0 s left");
}

TEST_CASE("progress: dead experts and dropped rows are shown where there are any", "[apps]") {
  ProgressUpdate update = at_120;
  update.dead_experts = 1;
  CHECK(
      progress_line(update, 1000, 0.4) ==
      "step 120/1000  loss 3.2146  5.1k tokens/s  balance 0.31  1 dead expert  0 s left");
  update.dead_experts = 3;
  update.dropped = 0.0213;
  CHECK_THAT(
      progress_bar(update, 1000, 0.4, 120, false),
      ContainsSubstring("balance 0.31  3 dead experts  2.1 % dropped  0 s left"));
}

TEST_CASE("progress: durations are short", "[apps]") {
  CHECK(format_duration(7.4) == "7 s");
  CHECK(format_duration(59.6) == "1:00");
  CHECK(format_duration(133) == "2:13");
  CHECK(format_duration(3733) == "1:02:13");
  CHECK(format_duration(3 * 86400 + 4 * 3600) == "3 d 4 h");
  CHECK_FALSE(format_duration(std::numeric_limits<double>::infinity()).empty());
}

TEST_CASE("progress: a file gets the first line, every n-th and the last", "[apps]") {
  FakeTerminal file(/*live=*/false);
  StatusLine status(file.target);
  Progress progress(status, /*first_step=*/3, /*total=*/11, /*log_every=*/5);
  for (int64_t step = 3; step <= 11; ++step) {
    file.time += 1s;
    progress.update({step, 1.0, 100.0, {}});
  }
  progress.finish();
  CHECK(
      file.take() ==
      "step 3/11  loss 1.0000  100 tokens/s\n"
      "step 5/11  loss 1.0000  100 tokens/s  6 s left\n"
      "step 10/11  loss 1.0000  100 tokens/s  1 s left\n"
      "step 11/11  loss 1.0000  100 tokens/s  0 s left\n");
}

TEST_CASE("progress: a terminal is redrawn ten times a second and keeps the end", "[apps]") {
  FakeTerminal terminal(/*live=*/true);
  StatusLine status(terminal.target);
  Progress progress(status, /*first_step=*/1, /*total=*/100, /*log_every=*/1);
  for (int64_t step = 1; step <= 99; ++step) {
    progress.update({step, 1.0, 100.0, {}});
    terminal.time += 10ms;
  }
  const std::string drawn = terminal.take();
  int redraws = 0;
  for (size_t at = 0; (at = drawn.find('\r', at)) != std::string::npos; ++at) {
    ++redraws;
  }
  CHECK(redraws == 10);
  CHECK(drawn.find('\n') == std::string::npos);
  progress.update({100, 1.0, 100.0, {}});
  progress.finish();
  const std::string end = terminal.take();
  CHECK_THAT(end, ContainsSubstring("step 100/100 ["));
  CHECK(end.back() == '\n');
}

TEST_CASE("status line: the log goes above the live line", "[apps]") {
  FakeTerminal terminal(/*live=*/true);
  {
    StatusLine status(terminal.target);
    status.log("{} files", 3);
    CHECK(terminal.take() == "3 files\n");
    status.show("working");
    CHECK(terminal.take() == std::string(clear_line) + "working");
    status.log("saved");
    CHECK(terminal.take() == std::string(clear_line) + "saved\n" + clear_line + "working");
    status.show("too soon");
    CHECK(terminal.take().empty());
  }
  CHECK(terminal.take() == clear_line);
}

TEST_CASE("status line: a long line is cut to the terminal", "[apps]") {
  FakeTerminal terminal(/*live=*/true);
  StatusLine status(terminal.target);
  status.show(std::string(200, 'x'));
  CHECK(terminal.take() == clear_line + std::string(59, 'x'));
}
