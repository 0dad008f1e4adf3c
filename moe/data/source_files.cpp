#include "moe/data/source_files.h"

#include <algorithm>
#include <filesystem>

#include "moe/error.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

/// Each level is listed on its own, so that an unreadable folder is named.
void append_files(const fs::path& folder, const fs::path& root, SourceFiles& files) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  for (const fs::directory_iterator end; !error && entry != end; entry.increment(error)) {
    if (is_hidden(entry->path())) {
      continue;
    }
    const auto status = entry->symlink_status(error);
    if (!error && fs::is_directory(status)) {
      append_files(entry->path(), root, files);
    } else if (!error && fs::is_regular_file(entry->path(), error)) {
      const auto name = entry->path().lexically_relative(root).generic_string();
      files.files.push_back({entry->path().string(), name});
    }
    if (error == std::errc::no_such_file_or_directory) {
      error.clear(); // a link to nothing, or a file that has just gone
    }
  }
  check(!error, folder.string(), ": cannot be read: ", error.message());
}

} // namespace

SourceFiles list_source_files(const std::string& path) {
  std::error_code error;
  const auto status = fs::status(path, error);
  check(
      fs::exists(status),
      path,
      ": no such file or folder",
      error && error != std::errc::no_such_file_or_directory ? " (" + error.message() + ")"
                                                             : "");
  SourceFiles files;
  files.is_folder = fs::is_directory(status);
  if (!files.is_folder) {
    files.files.push_back({path, fs::path(path).filename().string()});
    return files;
  }
  append_files(path, path, files);
  check(!files.files.empty(), path, ": the folder has no files");
  std::sort(files.files.begin(), files.files.end(), [](const auto& a, const auto& b) {
    return a.name < b.name;
  });
  return files;
}

bool is_json_lines(std::string_view name) {
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

} // namespace moe
