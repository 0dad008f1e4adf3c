#include "moe/generation/stop_text.h"

#include <algorithm>
#include <utility>

namespace moe {
namespace {

/// Length of the longest end of `text` that is a beginning of `stop`.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t size = std::min(text.size(), stop.size() - 1); size > 0; --size) {
    if (text.ends_with(stop.substr(0, size))) {
      return size;
    }
  }
  return 0;
}

} // namespace

StopText::StopText(const std::vector<std::string>& stops) {
  for (const auto& stop : stops) {
    if (!stop.empty()) {
      stops_.push_back(stop);
    }
  }
}

std::string StopText::push(std::string_view text) {
  if (found_) {
    return "";
  }
  held_ += text;
  size_t end = std::string::npos;
  for (const auto& stop : stops_) {
    end = std::min(end, held_.find(stop));
  }
  found_ = end != std::string::npos;
  size_t keep = 0;
  if (!found_) {
    for (const auto& stop : stops_) {
      keep = std::max(keep, overlap(held_, stop));
    }
    end = held_.size() - keep;
  }
  std::string ready = held_.substr(0, end);
  held_ = found_ ? "" : held_.substr(end);
  return ready;
}

std::string StopText::finish() {
  return std::exchange(held_, "");
}

} // namespace moe
