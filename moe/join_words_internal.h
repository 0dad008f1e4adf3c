#pragma once

// Private to the library: not installed.

#include <string>
#include <vector>

namespace moe {

/// "a, b, c", for messages that list what is known.
inline std::string join_words(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

} // namespace moe
