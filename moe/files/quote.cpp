#include "moe/files/quote_internal.h"

namespace moe {

std::string quote(std::string_view text) {
  constexpr size_t kLongest = 100;
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string result = "'";
  for (const char letter : text.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(letter);
    if (byte < 0x20 || byte == 0x7f) {
      result += {'\\', 'x', kDigits[byte >> 4], kDigits[byte & 15]};
    } else {
      result += letter;
    }
  }
  return result + (text.size() > kLongest ? "...'" : "'");
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string result = "[";
  for (const int64_t size : shape) {
    result += (result.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return result + "]";
}

} // namespace moe
