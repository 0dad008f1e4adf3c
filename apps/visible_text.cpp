#include "apps/visible_text.h"

#include <fmt/format.h>
#include <utf8proc.h>

namespace moe {
namespace {

void append_code_point(std::string& text, utf8proc_int32_t code_point) {
  utf8proc_uint8_t bytes[4];
  const auto length = utf8proc_encode_char(code_point, bytes);
  text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(length));
}

/// Whether a character has no shape of its own, or moves others. The joiners of emoji and of
/// Persian are part of what one sees.
bool is_invisible(utf8proc_int32_t code_point) {
  switch (utf8proc_category(code_point)) {
    case UTF8PROC_CATEGORY_CF:
      return code_point != 0x200C && code_point != 0x200D;
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return false;
  }
}

void append_visible(std::string& text, utf8proc_int32_t code_point, bool mark_spaces) {
  const bool is_space = code_point == ' ' || code_point == '\n' || code_point == '\t';
  if (is_space && !mark_spaces) {
    text += static_cast<char>(code_point);
  } else if (code_point == ' ') {
    text += "␣";
  } else if (code_point == '\n') {
    text += "↵";
  } else if (code_point == '\t') {
    text += "⇥";
  } else if (code_point < 0x20) {
    append_code_point(text, 0x2400 + code_point); // the picture of the control character
  } else if (code_point == 0x7F) {
    text += "␡";
  } else if (is_invisible(code_point)) {
    text += fmt::format("⟨U+{:04X}⟩", code_point);
  } else {
    append_code_point(text, code_point);
  }
}

} // namespace

std::string visible_text(std::string_view bytes, bool mark_spaces) {
  std::string text;
  std::string invalid;
  const auto flush = [&] {
    if (!invalid.empty()) {
      text += "⟨" + invalid + "⟩";
      invalid.clear();
    }
  };
  while (!bytes.empty()) {
    utf8proc_int32_t code_point = -1;
    const auto length = utf8proc_iterate(
        reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()),
        static_cast<utf8proc_ssize_t>(bytes.size()),
        &code_point);
    if (length > 0) {
      flush();
      append_visible(text, code_point, mark_spaces);
      bytes.remove_prefix(static_cast<size_t>(length));
    } else {
      const auto byte = static_cast<unsigned char>(bytes.front());
      invalid += fmt::format("{}{:02X}", invalid.empty() ? "" : " ", byte);
      bytes.remove_prefix(1);
    }
  }
  flush();
  return text;
}

} // namespace moe
