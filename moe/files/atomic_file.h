#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace moe {

/// A file that appears under its name complete and on the disk, or not at all.
///
/// It is written as `.tmp-NAME-PID` beside its final place, synced and renamed by `commit`.
/// Without `commit` the temporary file is removed. Every failure, a full disk among them,
/// throws `Error` naming the file.
///
/// Example:
/// ```
/// AtomicFile file("folder/config.json");
/// file.write(text);
/// file.commit();
/// ```
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);

  /// Syncs the file, renames it into place and syncs the folder.
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;
};

/// Writes `text` as the whole content of `path` through an `AtomicFile`.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);

/// Reads a whole text file of at most `max_bytes`; throws `Error` naming it when it is not a
/// readable regular file or is larger.
std::string read_text_file(const std::filesystem::path& path, size_t max_bytes = 256 << 20);

/// Makes `link` a symbolic link to `target`, replacing an older link in one step.
void replace_link(const std::filesystem::path& link, const std::filesystem::path& target);

/// Writes the entries of a folder to the disk, so that created and renamed names survive a
/// crash.
void sync_folder(const std::filesystem::path& folder);

/// The name under which `path` is written before it is complete: `.tmp-NAME-PID` beside it.
std::filesystem::path temporary_path(const std::filesystem::path& path);

/// Whether a file or folder name is one of a `temporary_path`.
bool is_temporary_name(std::string_view name);

} // namespace moe
