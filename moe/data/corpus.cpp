#include "moe/data/corpus.h"

#include <algorithm>
#include <limits>
#include <optional>

#include <nlohmann/json.hpp>

#include "moe/data/permutation.h"
#include "moe/data/source_files.h"
#include "moe/data/utf8.h"
#include "moe/error.h"
#include "moe/files/mapped_file.h"

namespace moe {
namespace {

constexpr std::string_view kDefaultDomain = "text";
constexpr uint64_t kHeldOutOneIn = 20;
constexpr size_t kSearchForSpace = 256;

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

bool is_domain_name(std::string_view name) {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '-' || c == '.';
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), allowed);
}

/// Takes a document; false ends the walk.
using Taker = std::function<bool(Document&&)>;

/// A file's text without a byte order mark; checked to be UTF-8.
std::string_view text_of(const MappedFile& file, const std::string& path) {
  const auto bytes = file.bytes();
  std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const size_t valid = valid_utf8_prefix(text);
  check(
      valid == text.size(),
      path,
      ": not UTF-8 at byte ",
      valid,
      "; convert the file to UTF-8 or leave it out");
  if (text.starts_with("\xEF\xBB\xBF")) {
    text.remove_prefix(3);
  }
  return text;
}

/// Takes the line at the beginning of `text` away from it, without its line break.
std::string_view next_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const auto line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line.ends_with('\r') ? line.substr(0, line.size() - 1) : line;
}

/// The turns of a conversation: objects with two strings, `role` and `content`.
std::vector<ChatMessage> messages_of(const nlohmann::json& list, const std::string& where) {
  check(list.is_array() && !list.empty(), where, ": \"messages\" is not a list of turns");
  std::vector<ChatMessage> messages;
  for (const auto& turn : list) {
    const bool is_turn = turn.is_object() && turn.contains("role") &&
                         turn["role"].is_string() && turn.contains("content") &&
                         turn["content"].is_string();
    check(
        is_turn, where, ": a turn is not an object with the strings \"role\" and \"content\"");
    messages.push_back({turn["role"].get<std::string>(), turn["content"].get<std::string>()});
  }
  return messages;
}

/// The document of a line: a text, or a conversation.
Document document_of_json_line(std::string_view line, const std::string& where) {
  const auto object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  check(
      !object.is_discarded(),
      where,
      ": not JSON; each line must be an object with a string \"text\" or a list \"messages\"");
  Document document;
  if (object.is_object() && object.contains("messages")) {
    document.messages = messages_of(object["messages"], where);
    for (const auto& message : document.messages) {
      document.text += message.content;
      document.text += '\n';
    }
    return document;
  }
  check(
      object.is_object() && object.contains("text") && object["text"].is_string(),
      where,
      ": expected an object with a string \"text\" or a list \"messages\", found ",
      object.is_object() ? "an object without either" : object.type_name());
  document.text = object["text"].get<std::string>();
  return document;
}

bool walk_json_lines(const SourceFile& file, const std::string& domain, const Taker& take) {
  const MappedFile mapped(file.path);
  auto text = text_of(mapped, file.path);
  for (int64_t number = 0; !text.empty(); ++number) {
    const auto line = next_line(text);
    if (is_blank(line)) {
      continue;
    }
    auto document = document_of_json_line(line, file.path + ":" + std::to_string(number + 1));
    document.domain = domain;
    document.path = file.name;
    document.number = number;
    if (!is_blank(document.text) && !take(std::move(document))) {
      return false;
    }
  }
  return true;
}

bool walk_blocks(const SourceFile& file, const std::string& domain, const Taker& take) {
  const MappedFile mapped(file.path);
  auto rest = text_of(mapped, file.path);
  int64_t number = 0;
  while (!rest.empty()) {
    const char* begin = rest.data();
    const char* end = begin;
    while (!rest.empty()) {
      const auto line = next_line(rest);
      if (is_blank(line)) {
        break;
      }
      end = line.data() + line.size();
    }
    const std::string_view block(begin, static_cast<size_t>(end - begin));
    if (!block.empty() && !take({std::string(block), domain, file.name, number++})) {
      return false;
    }
  }
  return true;
}

bool walk_whole_file(const SourceFile& file, const std::string& domain, const Taker& take) {
  const MappedFile mapped(file.path);
  const auto text = text_of(mapped, file.path);
  return is_blank(text) || take({std::string(text), domain, file.name, 0});
}

bool walk_file(
    const SourceFile& file, const std::string& domain, bool of_folder, const Taker& take) {
  if (is_json_lines(file.name)) {
    return walk_json_lines(file, domain, take);
  }
  return of_folder ? walk_whole_file(file, domain, take) : walk_blocks(file, domain, take);
}

void walk(const DataSource& source, const Taker& take) {
  const auto files = list_source_files(source.path);
  for (const auto& file : files.files) {
    if (!walk_file(file, source.domain, files.is_folder, take)) {
      return;
    }
  }
}

/// Whether the hash both holds documents out and leaves some for training. Throws where there
/// are none at all.
bool hash_splits(const DataSource& source) {
  bool any_held_out = false;
  bool any_training = false;
  walk(source, [&](Document&& document) {
    (is_held_out(document.path, document.number) ? any_held_out : any_training) = true;
    return !any_held_out || !any_training;
  });
  check(
      any_held_out || any_training,
      source.path,
      ": no text found; a file, folder or JSONL with text is needed");
  return any_held_out && any_training;
}

void visit_by_hash(const DataSource& source, bool held_out, const DocumentVisitor& visit) {
  walk(source, [&](Document&& document) {
    if (is_held_out(document.path, document.number) == held_out) {
      visit(document);
    }
    return true;
  });
}

void visit_all_but_tail(const DataSource& source, bool held_out, const DocumentVisitor& visit) {
  std::optional<Document> last;
  walk(source, [&](Document&& document) {
    if (last && !held_out) {
      visit(*last);
    }
    last = std::move(document);
    return true;
  });
  if (!last->messages.empty()) { // a conversation is not cut
    if (!held_out) {
      visit(*last);
    }
    return;
  }
  const size_t begin = held_out_tail(last->text);
  last->text = held_out ? last->text.substr(begin) : last->text.substr(0, begin);
  if (!is_blank(last->text)) {
    visit(*last);
  }
}

} // namespace

DataSource parse_data_source(std::string_view text) {
  const size_t equals = text.find('=');
  const bool labelled =
      equals != std::string_view::npos && is_domain_name(text.substr(0, equals));
  DataSource source{
      std::string(labelled ? text.substr(0, equals) : kDefaultDomain),
      std::string(labelled ? text.substr(equals + 1) : text)};
  check(!source.path.empty(), "data: '", text, "' has no path; expected PATH or NAME=PATH");
  return source;
}

std::vector<DataSource> parse_data_sources(const std::vector<std::string>& texts) {
  std::vector<DataSource> sources;
  for (const auto& text : texts) {
    sources.push_back(parse_data_source(text));
  }
  return sources;
}

void check_exist(const std::vector<DataSource>& sources) {
  for (const auto& source : sources) {
    list_source_files(source.path);
  }
}

std::vector<std::string> domains_of(const std::vector<DataSource>& sources) {
  std::vector<std::string> domains;
  for (const auto& source : sources) {
    if (std::find(domains.begin(), domains.end(), source.domain) == domains.end()) {
      domains.push_back(source.domain);
    }
  }
  return domains;
}

std::vector<DataSource> sources_of(
    const std::vector<DataSource>& sources, const std::string& domain) {
  std::vector<DataSource> chosen;
  std::copy_if(
      sources.begin(),
      sources.end(),
      std::back_inserter(chosen),
      [&](const DataSource& source) { return source.domain == domain; });
  return chosen;
}

bool is_held_out(std::string_view path, int64_t number) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const unsigned char byte : std::string(path) + '\0' + std::to_string(number)) {
    hash = (hash ^ byte) * 0x100000001b3u;
  }
  return mix_bits({hash}) < std::numeric_limits<uint64_t>::max() / kHeldOutOneIn;
}

size_t held_out_tail(std::string_view text) {
  const size_t wanted = text.size() - text.size() / kHeldOutOneIn;
  const size_t limit = std::min(text.size(), wanted + kSearchForSpace);
  for (size_t i = wanted; i < limit; ++i) {
    if (is_space(text[i - 1])) {
      return i;
    }
  }
  size_t begin = wanted;
  while (begin < text.size() && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) {
    ++begin;
  }
  return begin;
}

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(), is_space);
}

void for_each_document_of_file(
    const std::string& path,
    const std::string& name,
    const std::string& domain,
    bool of_folder,
    const DocumentVisitor& visit) {
  walk_file({path, name}, domain, of_folder, [&](Document&& document) {
    visit(document);
    return true;
  });
}

void for_each_document(const DataSource& source, Split split, const DocumentVisitor& visit) {
  const bool by_hash = hash_splits(source);
  if (split == Split::all) {
    walk(source, [&](Document&& document) {
      visit(document);
      return true;
    });
  } else if (by_hash) {
    visit_by_hash(source, split == Split::held_out, visit);
  } else {
    visit_all_but_tail(source, split == Split::held_out, visit);
  }
}

} // namespace moe
