#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moe/checkpoint/safetensors_file.h"

namespace moe {

/// The tensors of a model: one safetensors file, or several with an index.
///
/// `path` is a `.safetensors` file, an index (`model.safetensors.index.json`), or a folder that
/// holds `model.safetensors` or that index. The files an index names must lie beside it. Throws
/// `Error` naming the file and the fault, also when index and files disagree about any tensor.
class SafetensorsFolder {
 public:
  explicit SafetensorsFolder(const std::filesystem::path& path);

  /// The file or index that was read.
  const std::filesystem::path& path() const;

  /// The files, in the order of their names.
  const std::vector<std::shared_ptr<const SafetensorsFile>>& files() const;

  /// The tensor of this name, or null.
  const TensorEntry* find(std::string_view name) const;

  /// The file in which `find` finds the name, or null.
  std::shared_ptr<const SafetensorsFile> file_of(std::string_view name) const;

  /// Names of all tensors, sorted.
  std::vector<std::string> names() const;

  /// Bytes of all tensors together.
  int64_t total_bytes() const;

 private:
  std::filesystem::path path_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::unordered_map<std::string_view, size_t> file_by_name_; // views into the files' entries
};

} // namespace moe
