#include "apps/status_line.h"

#include <unistd.h>

#include <cstddef>

#include "apps/terminal.h"

namespace moe {
namespace {

constexpr auto redraw_interval = std::chrono::milliseconds(100);

// A progress line that cannot be written is no reason to stop a training run.
void write_stderr(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) {
      return;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

constexpr std::string_view clear_line = "\r\033[K";

} // namespace

StatusTarget stderr_target() {
  return {
      write_stderr,
      is_terminal(STDERR_FILENO),
      use_colours(STDERR_FILENO),
      [] { return terminal_width(STDERR_FILENO); },
      [] { return std::chrono::steady_clock::now(); }};
}

StatusLine::StatusLine(StatusTarget target) : target_(std::move(target)) {}

StatusLine::~StatusLine() {
  if (drawn_) {
    target_.write(clear_line);
  }
}

int StatusLine::width() const {
  // The last column stays free: some terminals wrap as soon as it is written.
  return target_.width() - 1;
}

bool StatusLine::due() const {
  const std::lock_guard lock(mutex_);
  return target_.live && (!ever_drawn_ || target_.now() - last_draw_ >= redraw_interval);
}

void StatusLine::show(std::string text) {
  const std::lock_guard lock(mutex_);
  if (!target_.live) {
    return;
  }
  text_ = std::move(text);
  const auto now = target_.now();
  if (!ever_drawn_ || now - last_draw_ >= redraw_interval) {
    draw(text_);
    last_draw_ = now;
    ever_drawn_ = true;
  }
}

void StatusLine::log_line(std::string_view line) {
  const std::lock_guard lock(mutex_);
  target_.write((drawn_ ? std::string(clear_line) : std::string()) + std::string(line) + "\n");
  if (drawn_) {
    draw(text_);
  }
}

void StatusLine::finish() {
  const std::lock_guard lock(mutex_);
  if (!target_.live || text_.empty()) {
    return;
  }
  draw(text_);
  target_.write("\n");
  text_.clear();
  drawn_ = false;
}

void StatusLine::draw(std::string_view text) {
  target_.write(std::string(clear_line) + fit_columns(text, width()));
  drawn_ = true;
}

} // namespace moe
