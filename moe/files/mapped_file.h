#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>

namespace moe {

/// A whole file in memory, read by the operating system page by page when it is touched.
///
/// Copies share one mapping, which lives as long as the last of them or of the pointers that
/// `owner` hands out. Writing to the memory is allowed and changes this process' pages only,
/// never the file. Only regular files are opened, never folders, devices or pipes.
class MappedFile {
 public:
  /// Throws `Error` naming `path` when it is not a readable regular file.
  explicit MappedFile(const std::filesystem::path& path);

  std::span<std::byte> bytes() const;

  /// Keeps the mapping alive.
  std::shared_ptr<void> owner() const;

 private:
  std::shared_ptr<std::byte> data_;
  size_t size_ = 0;
};

/// Gives the memory behind these bytes of a mapped file back, but for pages that they share
/// with others. They are read from the file again when they are touched, without what was
/// written to them.
void release_pages(std::span<const std::byte> bytes);

} // namespace moe
