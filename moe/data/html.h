#pragma once

#include <string>
#include <string_view>

namespace moe {

/// The readable text of an HTML or XHTML page as UTF-8.
///
/// Block elements become paragraphs separated by one blank line, list items and table rows
/// lines. White space is collapsed outside of `<pre>`. Scripts, styles, forms, page navigation
/// (`<nav>`, `<footer>`, class or id `docnav`, `banner`, `toc`, ...) and footnote marks are
/// left out. The parser is lenient, loads nothing and expands no entity definitions. `name` is
/// the page's name in errors.
///
/// Throws `Error` where the page cannot be parsed at all or is larger than 64 MiB.
std::string html_to_text(std::string_view html, const std::string& name);

} // namespace moe
