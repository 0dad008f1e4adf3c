#include "apps/progress.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "apps/terminal.h"

namespace moe {
namespace {

constexpr int widest_bar = 30;
constexpr int narrowest_bar = 8;

std::string coloured(const char* code, const std::string& text, bool colours) {
  return colours ? fmt::format("\033[{}m{}\033[0m", code, text) : text;
}

std::string short_count(double count) {
  if (!std::isfinite(count)) {
    return "?";
  }
  constexpr double thousand = 1e3;
  constexpr double million = 1e6;
  return count >= million         ? fmt::format("{:.1f}M", count / million)
         : count >= 10 * thousand ? fmt::format("{:.0f}k", count / thousand)
         : count >= thousand      ? fmt::format("{:.1f}k", count / thousand)
                                  : fmt::format("{:.0f}", count);
}

// Most important first: what does not fit is left out from the end.
std::vector<std::string> parts_of(
    const ProgressUpdate& update, double seconds_left, bool colours) {
  std::vector<std::string> parts;
  parts.push_back("loss " + coloured("1", fmt::format("{:.4f}", update.loss), colours));
  parts.push_back(short_count(update.tokens_per_s) + " tokens/s");
  if (update.max_violation) {
    parts.push_back(fmt::format("balance {:.2f}", *update.max_violation));
  }
  if (update.dead_experts > 0) {
    const std::string dead = fmt::format(
        "{} dead expert{}", update.dead_experts, update.dead_experts == 1 ? "" : "s");
    parts.push_back(coloured("33", dead, colours));
  }
  if (update.dropped > 0.0) {
    parts.push_back(fmt::format("{:.1f} % dropped", 100.0 * update.dropped));
  }
  if (seconds_left >= 0.0) {
    parts.push_back(format_duration(seconds_left) + " left");
  }
  return parts;
}

std::string head_of(const ProgressUpdate& update, int64_t total) {
  return fmt::format("step {}/{}", update.step, total);
}

std::string bar_of(double share, int columns, bool colours) {
  const int inside = columns - 2;
  const int done = std::clamp(static_cast<int>(share * inside), 0, inside);
  std::string filled(static_cast<size_t>(done), '=');
  if (done > 0 && done < inside) {
    filled.back() = '>';
  }
  return fmt::format("[{}{:{}}]", coloured("32", filled, colours), "", inside - done);
}

} // namespace

std::string progress_bar(
    const ProgressUpdate& update, int64_t total, double seconds_left, int width, bool colours) {
  const std::string head = head_of(update, total);
  std::string tail;
  int columns = display_width(head);
  for (const std::string& part : parts_of(update, seconds_left, colours)) {
    const int wanted = display_width(part) + 2;
    if (columns + wanted > width) {
      break;
    }
    columns += wanted;
    tail += "  " + part;
  }
  const int room = std::min(width - columns - 1, widest_bar);
  if (room < narrowest_bar) {
    return fit_columns(head + tail, width);
  }
  const double share = static_cast<double>(update.step) / static_cast<double>(total);
  return head + " " + bar_of(share, room, colours) + tail;
}

std::string progress_line(const ProgressUpdate& update, int64_t total, double seconds_left) {
  std::string line = head_of(update, total);
  for (const std::string& part : parts_of(update, seconds_left, /*colours=*/false)) {
    line += "  " + part;
  }
  return line;
}

std::string format_duration(double seconds) {
  constexpr int64_t minute = 60;
  constexpr int64_t hour = 60 * minute;
  constexpr int64_t day = 24 * hour;
  // Past a thousand years the number says nothing more.
  const auto total = static_cast<int64_t>(std::llround(std::clamp(seconds, 0.0, 3e10)));
  if (total < minute) {
    return fmt::format("{} s", total);
  }
  if (total < hour) {
    return fmt::format("{}:{:02}", total / minute, total % minute);
  }
  if (total < 2 * day) {
    return fmt::format("{}:{:02}:{:02}", total / hour, total % hour / minute, total % minute);
  }
  return fmt::format("{} d {} h", total / day, total % day / hour);
}

Progress::Progress(StatusLine& status, int64_t first_step, int64_t total, int64_t log_every)
    : status_(status),
      first_step_(first_step),
      total_(total),
      log_every_(log_every),
      start_(status.now()) {}

void Progress::update(const ProgressUpdate& update) {
  last_ = update;
  if (status_.live()) {
    if (status_.due()) {
      status_.show(progress_bar(
          update, total_, seconds_left(update.step), status_.width(), status_.colours()));
    }
    return;
  }
  const bool wanted =
      update.step == first_step_ || update.step % log_every_ == 0 || update.step == total_;
  if (wanted) {
    status_.log_line(progress_line(update, total_, seconds_left(update.step)));
  }
}

void Progress::finish() {
  if (status_.live() && last_) {
    // The last step may have come too soon after the one before to be drawn.
    status_.show(progress_bar(
        *last_, total_, seconds_left(last_->step), status_.width(), status_.colours()));
    status_.finish();
  }
}

double Progress::seconds_left(int64_t step) const {
  const int64_t done = step - first_step_ + 1;
  // The first step also warms up the machine: no forecast from it alone.
  if (done < 2) {
    return -1.0;
  }
  const std::chrono::duration<double> elapsed = status_.now() - start_;
  return elapsed.count() / static_cast<double>(done) * static_cast<double>(total_ - step);
}

} // namespace moe
