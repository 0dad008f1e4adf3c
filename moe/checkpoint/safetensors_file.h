#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moe/checkpoint/element_type.h"
#include "moe/files/mapped_file.h"

namespace moe {

/// One tensor of a safetensors file. `bytes` points into the mapped file, little-endian and in
/// C order, and need not be aligned to the element size.
struct TensorEntry {
  std::string name;
  ElementType type = ElementType::f32;
  std::vector<int64_t> shape;
  std::span<std::byte> bytes;
};

/// A safetensors file, mapped into memory and checked completely before anything is handed out:
/// header, names, types, shapes, and that the tensors fill the data without holes or overlaps.
///
/// Throws `Error` naming the file and the fault. Safe for files from strangers: nothing is
/// allocated by a number from the file before it was compared with the file's size.
///
/// Example:
/// ```
/// SafetensorsFile file("model.safetensors");
/// for (const TensorEntry& tensor : file.tensors()) { ... }
/// ```
class SafetensorsFile {
 public:
  explicit SafetensorsFile(std::filesystem::path path);
  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  const std::filesystem::path& path() const;

  /// All tensors, in the order of their data.
  const std::vector<TensorEntry>& tensors() const;

  /// The tensor of this name, or null.
  const TensorEntry* find(std::string_view name) const;

  /// The `__metadata__` of the header.
  const std::map<std::string, std::string>& metadata() const;

  /// Keeps the memory of all `bytes` alive.
  std::shared_ptr<void> owner() const;

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::vector<TensorEntry> tensors_;
  std::unordered_map<std::string_view, size_t> by_name_; // views into tensors_
  std::map<std::string, std::string> metadata_;
};

} // namespace moe
