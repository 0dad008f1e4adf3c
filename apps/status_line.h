#pragma once

#include <fmt/format.h>

#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

namespace moe {

/// Where a `StatusLine` writes and what is there.
struct StatusTarget {
  std::function<void(std::string_view)> write;
  /// Whether a line can be redrawn.
  bool live = false;
  bool colours = false;
  std::function<int()> width;
  std::function<std::chrono::steady_clock::time_point()> now;
};

/// stderr as it is.
StatusTarget stderr_target();

/// Progress and log on stderr: on a terminal one line that is redrawn at most ten times a
/// second below the log, elsewhere plain lines. Safe to use from several threads.
///
/// Example:
/// ```
/// StatusLine status;
/// status.log("{} documents", count);
/// for (...) {
///   status.show("encoding, 40 %");
/// }
/// status.finish();
/// ```
class StatusLine {
 public:
  explicit StatusLine(StatusTarget target = stderr_target());

  /// Clears a line that is still live.
  ~StatusLine();
  StatusLine(const StatusLine&) = delete;
  StatusLine& operator=(const StatusLine&) = delete;

  /// Whether the line is redrawn; if not, `show` does nothing.
  bool live() const {
    return target_.live;
  }
  bool colours() const {
    return target_.colours;
  }

  /// Columns that the live line may take.
  int width() const;

  /// The time by the target's clock.
  std::chrono::steady_clock::time_point now() const {
    return target_.now();
  }

  /// Whether `show` would draw now rather than keep the text for later.
  bool due() const;

  /// Redraws the live line, cut to the terminal's width. `text` has no line ends; colour codes
  /// take no width.
  void show(std::string text);

  /// Writes a line above the live one.
  template <class... Parts>
  void log(fmt::format_string<Parts...> format, Parts&&... parts) {
    log_line(fmt::format(format, std::forward<Parts>(parts)...));
  }
  void log_line(std::string_view line);

  /// Leaves the last text that was shown as a final line.
  void finish();

 private:
  void draw(std::string_view text);

  StatusTarget target_;
  mutable std::mutex mutex_;
  std::string text_;
  bool drawn_ = false;
  bool ever_drawn_ = false;
  std::chrono::steady_clock::time_point last_draw_;
};

} // namespace moe
