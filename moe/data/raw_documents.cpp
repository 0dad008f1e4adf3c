#include "moe/data/raw_documents.h"

#include <algorithm>
#include <array>

#include "moe/data/ascii_sentences.h"
#include "moe/data/html.h"
#include "moe/data/source_files.h"
#include "moe/data/utf8.h"
#include "moe/files/mapped_file.h"

namespace moe {
namespace {

constexpr std::array<std::string_view, 3> kHtmlEndings = {".html", ".htm", ".xhtml"};
constexpr std::array<std::string_view, 4> kTextEndings = {".txt", ".md", ".jsonl", ".ndjson"};

template <class Endings>
bool ends_in(std::string_view name, const Endings& endings) {
  return std::any_of(endings.begin(), endings.end(), [&](std::string_view ending) {
    return name.ends_with(ending);
  });
}

std::string_view bytes_of(const MappedFile& file) {
  const auto bytes = file.bytes();
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_test(const std::string& name) {
  const std::string path = "/" + name;
  const auto stem_begin = path.rfind('/') + 1;
  const auto stem = path.substr(stem_begin, path.find('.', stem_begin) - stem_begin);
  return path.find("/test/") != std::string::npos ||
         path.find("/tests/") != std::string::npos || stem.starts_with("test_") ||
         stem.ends_with("_test");
}

bool is_table(std::string_view text) {
  size_t lines = 0;
  size_t data = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const auto line = text.substr(0, end);
    const size_t first = line.find_first_not_of(" \t\r");
    lines += first != std::string_view::npos;
    data += first != std::string_view::npos &&
            std::string_view("'\"0123456789").find(line[first]) != std::string_view::npos;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return 2 * data > lines;
}

/// Why a file of a folder is left out; empty if it is not.
std::string reason_to_skip(
    const RawSource& source, const std::string& name, bool has_html, std::string_view bytes) {
  const bool is_page = ends_in(name, kHtmlEndings);
  if (has_html && !is_page && !ends_in(name, kTextEndings)) {
    return "part of a page";
  }
  if (source.skip_tests && is_test(name)) {
    return "test";
  }
  if (is_page) {
    return "";
  }
  const bool is_text = is_valid_utf8(bytes) && bytes.find('\0') == std::string_view::npos;
  if (!is_text && !ends_in(name, kTextEndings)) {
    return "not UTF-8 text";
  }
  return source.skip_tables && is_table(bytes) ? "data table" : "";
}

void use_plain_line_ends(std::string& text) {
  if (text.find('\r') == std::string::npos) {
    return;
  }
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\r') {
      plain += text[i];
    } else if (i + 1 == text.size() || text[i + 1] != '\n') {
      plain += '\n';
    }
  }
  text = std::move(plain);
}

} // namespace

void for_each_raw_document(
    const RawSource& source,
    std::vector<SkippedFile>& skipped,
    const std::function<void(Document&&, RawKind)>& visit_raw) {
  const auto visit = [&](Document&& document, RawKind kind) {
    use_plain_line_ends(document.text);
    if (source.max_ascii_share < 1) {
      document.text = without_ascii_sentences(document.text, source.max_ascii_share);
    }
    visit_raw(std::move(document), kind);
  };
  const auto& [domain, path] = source.source;
  const auto files = list_source_files(path);
  const bool has_html =
      std::any_of(files.files.begin(), files.files.end(), [](const SourceFile& file) {
        return ends_in(file.name, kHtmlEndings);
      });
  for (const auto& file : files.files) {
    if (files.is_folder && !source.endings.empty() && !ends_in(file.name, source.endings)) {
      continue;
    }
    if (files.is_folder) {
      const MappedFile mapped(file.path);
      const auto reason = reason_to_skip(source, file.name, has_html, bytes_of(mapped));
      if (!reason.empty()) {
        skipped.push_back({file.name, reason});
        continue;
      }
    }
    if (ends_in(file.name, kHtmlEndings)) {
      const MappedFile mapped(file.path);
      visit({html_to_text(bytes_of(mapped), file.path), domain, file.name, 0}, RawKind::html);
      continue;
    }
    const bool whole = files.is_folder && !is_json_lines(file.name);
    for_each_document_of_file(
        file.path, file.name, domain, files.is_folder, [&](const Document& document) {
          visit(Document(document), whole ? RawKind::file : RawKind::fragment);
        });
  }
}

} // namespace moe
