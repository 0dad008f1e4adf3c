#include "moe/data/html.h"

#include <libxml/HTMLparser.h>
#include <libxml/tree.h>

#include <algorithm>
#include <array>
#include <memory>

#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe {
namespace {

constexpr size_t kLargestPage = 64 << 20;

struct FreeDocument {
  void operator()(xmlDoc* document) const {
    xmlFreeDoc(document);
  }
};

template <size_t N>
bool is_one_of(std::string_view name, const std::array<std::string_view, N>& names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

constexpr std::array<std::string_view, 23> kDroppedElements = {
    "head",   "title",  "script",   "style",    "noscript", "template", "nav",    "footer",
    "button", "select", "textarea", "datalist", "svg",      "math",     "iframe", "object",
    "canvas", "audio",  "video",    "map",      "frameset", "noframes", "meta"};

constexpr std::array<std::string_view, 12> kDroppedNames = {
    "docnav",
    "banner",
    "navheader",
    "navfooter",
    "navigation",
    "navbar",
    "sidebar-nav",
    "breadcrumb",
    "breadcrumbs",
    "toc",
    "footnote-ref",
    "headerlink"};

constexpr std::array<std::string_view, 41> kParagraphElements = {
    "html",   "body",    "p",          "div",        "section", "article", "main",
    "header", "nav",     "footer",     "aside",      "address", "h1",      "h2",
    "h3",     "h4",      "h5",         "h6",         "ul",      "ol",      "dl",
    "dir",    "menu",    "table",      "thead",      "tbody",   "tfoot",   "caption",
    "pre",    "center",  "blockquote", "figure",     "hr",      "form",    "fieldset",
    "legend", "details", "summary",    "figcaption", "hgroup",  "listing"};

constexpr std::array<std::string_view, 4> kLineElements = {"li", "dt", "dd", "tr"};

std::string_view name_of(const xmlNode* node) {
  return node->name == nullptr ? std::string_view() : reinterpret_cast<const char*>(node->name);
}

std::string attribute(xmlNode* node, const char* name) {
  const std::unique_ptr<xmlChar, void (*)(void*)> value(
      xmlGetProp(node, reinterpret_cast<const xmlChar*>(name)), [](void* p) { xmlFree(p); });
  return value ? reinterpret_cast<const char*>(value.get()) : "";
}

bool has_dropped_name(std::string_view words) {
  while (!words.empty()) {
    const size_t end = std::min(words.find_first_of(" \t\n"), words.size());
    if (is_one_of(words.substr(0, end), kDroppedNames)) {
      return true;
    }
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

bool is_dropped(xmlNode* node) {
  if (name_of(node) == "html" || name_of(node) == "body") {
    return false;
  }
  return is_one_of(name_of(node), kDroppedElements) ||
         has_dropped_name(attribute(node, "class")) ||
         has_dropped_name(attribute(node, "id")) || attribute(node, "role") == "navigation" ||
         xmlHasProp(node, reinterpret_cast<const xmlChar*>("hidden")) != nullptr;
}

/// A reference to a footnote: `<sup>` around nothing but a link.
bool is_footnote_mark(xmlNode* node) {
  const auto name = name_of(node);
  return name == "sup" && node->children != nullptr && node->children->next == nullptr &&
         name_of(node->children) == "a";
}

/// Collects text and turns what HTML shows as space and blocks into spaces and line breaks.
class TextWriter {
 public:
  enum Break { none, space, line, paragraph };

  /// Asks for at least this much space before the next text.
  void request(Break wanted) {
    pending_ = std::max(pending_, wanted);
  }

  void write_collapsed(std::string_view text) {
    while (!text.empty()) {
      const auto step = next_utf8(text);
      if (is_space(step.code_point)) {
        request(space);
      } else if (!is_invisible(step.code_point)) {
        write(text.substr(0, step.length));
      }
      text.remove_prefix(step.length);
    }
  }

  /// Keeps spaces and line breaks, as within `<pre>`.
  void write_preformatted(std::string_view text) {
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size());
      for (auto row = text.substr(0, end); !row.empty();) {
        const auto step = next_utf8(row);
        if (is_space(step.code_point)) {
          indent_ += step.code_point == '\t' ? '\t' : ' ';
        } else if (!is_invisible(step.code_point)) {
          write(row.substr(0, step.length));
        }
        row.remove_prefix(step.length);
      }
      if (end < text.size()) {
        end_row();
      }
      text.remove_prefix(std::min(end + 1, text.size()));
    }
  }

  std::string finish() && {
    if (!text_.empty()) {
      text_ += '\n';
    }
    return std::move(text_);
  }

 private:
  static bool is_space(char32_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xA0;
  }

  /// Soft hyphens, zero-width spaces, byte order marks and control characters.
  static bool is_invisible(char32_t c) {
    return c < 0x20 || c == 0x7F || c == 0xAD || c == 0x200B || c == 0xFEFF;
  }

  /// An empty row of preformatted text makes one blank line, many make one, too.
  void end_row() {
    indent_.clear();
    request(pending_ >= line ? paragraph : line);
  }

  void write(std::string_view character) {
    if (!text_.empty()) {
      constexpr std::array<std::string_view, 4> kBreaks = {"", " ", "\n", "\n\n"};
      text_ += kBreaks[pending_];
    }
    pending_ = none;
    text_ += indent_;
    indent_.clear();
    text_ += character;
  }

  std::string text_;
  std::string indent_; ///< preformatted spaces, written when more of their row follows
  Break pending_ = none;
};

/// Walks a tree without recursion, so that its depth costs no stack.
class PageReader {
 public:
  std::string read(xmlNode* root) && {
    xmlNode* node = root;
    while (node != nullptr) {
      const bool entered = enter(node);
      if (entered && node->children != nullptr) {
        node = node->children;
        continue;
      }
      if (entered) {
        leave(node);
      }
      while (node != root && node->next == nullptr) {
        node = node->parent;
        leave(node);
      }
      node = node == root ? nullptr : node->next;
    }
    return std::move(text_).finish();
  }

 private:
  /// The space around an element's text.
  TextWriter::Break break_of(xmlNode* node) const {
    const auto name = name_of(node);
    if (is_one_of(name, kLineElements)) {
      return TextWriter::line;
    }
    if (name == "td" || name == "th") {
      return TextWriter::space;
    }
    if (is_one_of(name, kParagraphElements)) {
      return table_rows_ > 0 ? TextWriter::space : TextWriter::paragraph;
    }
    return TextWriter::none;
  }

  /// Writes a text node, or opens an element; false where its children are left out.
  bool enter(xmlNode* node) {
    if (node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE) {
      const std::string_view content =
          node->content == nullptr ? "" : reinterpret_cast<const char*>(node->content);
      preformatted_ > 0 ? text_.write_preformatted(content) : text_.write_collapsed(content);
      return false;
    }
    if (node->type != XML_ELEMENT_NODE) {
      return false;
    }
    const auto name = name_of(node);
    if (is_dropped(node)) {
      text_.request(break_of(node));
      return false;
    }
    if (is_footnote_mark(node)) {
      return false;
    }
    if (name == "br") {
      text_.request(TextWriter::line);
    }
    text_.request(break_of(node));
    preformatted_ += name == "pre";
    table_rows_ += name == "tr";
    return true;
  }

  void leave(xmlNode* node) {
    const auto name = name_of(node);
    preformatted_ -= name == "pre";
    table_rows_ -= name == "tr";
    text_.request(break_of(node));
  }

  TextWriter text_;
  int64_t preformatted_ = 0;
  int64_t table_rows_ = 0;
};

} // namespace

std::string html_to_text(std::string_view html, const std::string& name) {
  check(
      html.size() <= kLargestPage,
      name,
      ": ",
      html.size(),
      " bytes are too many for an HTML page; at most ",
      kLargestPage,
      " are read");
  if (html.find_first_not_of(" \t\r\n") == std::string_view::npos) {
    return {};
  }
  const std::unique_ptr<xmlDoc, FreeDocument> document(htmlReadMemory(
      html.data(),
      static_cast<int>(html.size()),
      /*URL=*/nullptr,
      is_valid_utf8(html) ? "UTF-8" : nullptr,
      HTML_PARSE_RECOVER | HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET |
          HTML_PARSE_COMPACT));
  check(document != nullptr, name, ": cannot be read as HTML");
  xmlNode* root = xmlDocGetRootElement(document.get());
  return root == nullptr ? std::string() : PageReader().read(root);
}

} // namespace moe
