#pragma once

#include <string>
#include <string_view>

namespace moe {

/// Whether the file descriptor is a terminal that can redraw a line (not `TERM=dumb`).
bool is_terminal(int descriptor);

/// Columns of the terminal; 80 where that is not known.
int terminal_width(int descriptor);

/// Whether to write colours: a terminal, and the variable NO_COLOR is not set or empty.
bool use_colours(int descriptor);

/// Columns that UTF-8 text takes: 2 for wide characters, 0 for combining ones and colour codes.
int display_width(std::string_view text);

/// The longest beginning of the text that fits into `columns`; never half a character. Colour
/// codes are kept.
std::string fit_columns(std::string_view text, int columns);

} // namespace moe
