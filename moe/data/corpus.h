#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/document.h"

namespace moe {

/// Where the text of a domain lies: a file, a folder or a JSONL file.
struct DataSource {
  std::string domain;
  std::string path;

  bool operator==(const DataSource&) const = default;
};

/// Reads `NAME=PATH` or `PATH`; the domain of an unlabelled path is `text`. A name has letters,
/// digits, `_`, `-` and `.` only, so `./a=b.txt` is a path. Throws `Error` for an empty path.
DataSource parse_data_source(std::string_view text);

/// Parses each.
std::vector<DataSource> parse_data_sources(const std::vector<std::string>& texts);

/// Throws `Error` naming a source that is missing or an empty folder.
void check_exist(const std::vector<DataSource>& sources);

/// The distinct domains of `sources`, in the order of their first mention.
std::vector<std::string> domains_of(const std::vector<DataSource>& sources);

/// The sources of one domain, in their order.
std::vector<DataSource> sources_of(
    const std::vector<DataSource>& sources, const std::string& domain);

/// Which documents of a source are read. About 5 % of the documents are held out, chosen by a
/// hash of relative path and number, so that they stay the same when documents are added. Where
/// that chooses none or all (few documents), the last 5 % of the last document are held out.
enum class Split { all, training, held_out };

using DocumentVisitor = std::function<void(const Document&)>;

/// Calls `visit` for each document of `source`, in an order that depends on names only.
///
/// A document is
/// - a file of a folder (subfolders too, sorted by path; names that begin with `.` are left
///   out),
/// - a line of a file named `*.jsonl` or `*.ndjson` (also within a folder): an object with a
///   string `text`, or a conversation with a list `messages` of {role, content},
/// - a block between blank lines of any other single file.
///
/// Documents of white space only are left out. Holds one or two documents in memory.
///
/// Throws `Error` naming the file where it is missing, unreadable or without any text, the byte
/// offset where a file is not UTF-8, and `FILE:LINE` where JSONL is malformed.
void for_each_document(const DataSource& source, Split split, const DocumentVisitor& visit);

/// Whether the hash of a document's place holds it out: FNV-1a over `path`, a zero byte and
/// the decimal `number`, mixed by splitmix64's finaliser, is in the lowest twentieth.
bool is_held_out(std::string_view path, int64_t number);

/// Where the last 5 % of a text begin: after white space where some is near, and never within a
/// character.
size_t held_out_tail(std::string_view text);

/// Whether `text` has nothing but white space.
bool is_blank(std::string_view text);

/// Calls `visit` for the documents of one file, as `for_each_document` does. `name` becomes
/// their path; a file of a folder that is no JSONL is one document.
void for_each_document_of_file(
    const std::string& path,
    const std::string& name,
    const std::string& domain,
    bool of_folder,
    const DocumentVisitor& visit);

} // namespace moe
