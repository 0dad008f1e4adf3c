#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moe {

/// One file of a data source.
struct SourceFile {
  std::string path; ///< to open it
  std::string name; ///< relative to a folder, with `/`; the file's own name otherwise
};

struct SourceFiles {
  std::vector<SourceFile> files; ///< sorted by name, byte by byte
  bool is_folder = false;
};

/// The regular files that `path` stands for: itself, or those of the folder and its subfolders
/// whose names do not begin with `.`. Links to files are followed, links to folders are not.
///
/// Throws `Error` naming the path where it is missing, unreadable or an empty folder.
SourceFiles list_source_files(const std::string& path);

/// Whether a name ends in `.jsonl` or `.ndjson`.
bool is_json_lines(std::string_view name);

} // namespace moe
