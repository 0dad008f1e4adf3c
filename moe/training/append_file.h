#pragma once

#include <filesystem>
#include <string_view>

namespace moe {

/// A file that grows by whole records. Each is handed to the system at once, so that a killed
/// process loses none and other programs can follow the file.
class AppendFile {
 public:
  /// Opens `path` for appending and creates it if it is missing; with `must_be_new`, a file
  /// that exists is an error. Throws `Error` naming the file and the reason.
  explicit AppendFile(const std::filesystem::path& path, bool must_be_new = false);
  ~AppendFile();
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&& other) noexcept;

  /// Throws `Error` naming the file and the reason, such as a full disk.
  void append(std::string_view bytes);

  const std::filesystem::path& path() const {
    return path_;
  }

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
};

} // namespace moe
