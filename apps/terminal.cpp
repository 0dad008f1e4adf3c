#include "apps/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include <utf8proc.h>

#include <cstddef>
#include <cstdlib>

namespace moe {
namespace {

struct Character {
  size_t length = 1;
  int columns = 0;
};

// Bytes that are no UTF-8 are shown as one replacement character each.
Character next_character(std::string_view text) {
  utf8proc_int32_t code_point = -1;
  const auto length = utf8proc_iterate(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
      static_cast<utf8proc_ssize_t>(text.size()),
      &code_point);
  if (length <= 0) {
    return {1, 1};
  }
  return {static_cast<size_t>(length), utf8proc_charwidth(code_point)};
}

// The length of a colour code (ESC [ ... m) at the beginning of the text, or 0.
size_t colour_code(std::string_view text) {
  if (!text.starts_with("\033[")) {
    return 0;
  }
  const size_t end = text.find('m');
  return end == std::string_view::npos ? 0 : end + 1;
}

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

} // namespace

bool is_terminal(int descriptor) {
  const char* kind = std::getenv("TERM");
  const bool dumb = kind != nullptr && std::string_view(kind) == "dumb";
  return ::isatty(descriptor) == 1 && !dumb;
}

int terminal_width(int descriptor) {
  winsize size = {};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    return 80;
  }
  return size.ws_col;
}

bool use_colours(int descriptor) {
  return is_terminal(descriptor) && !is_set("NO_COLOR");
}

int display_width(std::string_view text) {
  int columns = 0;
  while (!text.empty()) {
    if (const size_t code = colour_code(text)) {
      text.remove_prefix(code);
      continue;
    }
    const Character character = next_character(text);
    columns += character.columns;
    text.remove_prefix(character.length);
  }
  return columns;
}

std::string fit_columns(std::string_view text, int columns) {
  std::string fitted;
  bool full = false;
  while (!text.empty()) {
    // Colour codes stay even behind the cut, or the terminal would keep the colour.
    if (const size_t code = colour_code(text)) {
      fitted += text.substr(0, code);
      text.remove_prefix(code);
      continue;
    }
    const Character character = next_character(text);
    full = full || character.columns > columns;
    if (!full) {
      fitted += text.substr(0, character.length);
      columns -= character.columns;
    }
    text.remove_prefix(character.length);
  }
  return fitted;
}

} // namespace moe
