#include "moe/checkpoint/safetensors_folder.h"

#include <algorithm>
#include <map>
#include <set>

#include "moe/error.h"
#include "moe/files/json_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kIndexSuffix = ".index.json";
constexpr std::string_view kFileSuffix = ".safetensors";
constexpr size_t kLongestName = 255;

fs::path find_weights(const fs::path& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    return path;
  }
  const auto single = path / "model.safetensors";
  const auto index = path / "model.safetensors.index.json";
  const bool has_single = fs::exists(single, ignored);
  const bool has_index = fs::exists(index, ignored);
  check(
      !(has_single && has_index),
      path.string(),
      ": holds model.safetensors and model.safetensors.index.json; remove the one that is not "
      "meant");
  check(
      has_single || has_index,
      path.string(),
      ": holds no model.safetensors and no model.safetensors.index.json");
  return has_single ? single : index;
}

// The index comes from anywhere: a name must not lead out of the folder.
void check_file_name(const std::string& name, const std::string& index) {
  const bool plain = name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
  check(
      plain && name.size() <= kLongestName && name.ends_with(kFileSuffix) &&
          name.size() > kFileSuffix.size(),
      index,
      ": weight_map names ",
      quote(name),
      "; expected a .safetensors file beside the index");
}

std::map<std::string, std::string> read_weight_map(const fs::path& path) {
  const std::string index = path.string();
  const Json json = read_json_object(path);
  check(
      json.contains("weight_map") && json["weight_map"].is_object() &&
          !json["weight_map"].empty(),
      index,
      ": expected a weight_map from tensor names to file names");
  std::map<std::string, std::string> weight_map;
  for (const auto& [tensor, file] : json["weight_map"].items()) {
    check(file.is_string(), index, ": weight_map must give a file name for ", quote(tensor));
    check_file_name(file.get_ref<const std::string&>(), index);
    weight_map.emplace(tensor, file.get<std::string>());
  }
  return weight_map;
}

} // namespace

SafetensorsFolder::SafetensorsFolder(const fs::path& path) : path_(find_weights(path)) {
  if (!path_.filename().string().ends_with(kIndexSuffix)) {
    files_.push_back(std::make_shared<SafetensorsFile>(path_));
    for (const TensorEntry& tensor : files_[0]->tensors()) {
      file_by_name_.emplace(tensor.name, 0);
    }
    return;
  }
  const auto weight_map = read_weight_map(path_);
  std::set<std::string> names;
  for (const auto& [tensor, file] : weight_map) {
    names.insert(file);
  }
  for (const std::string& name : names) {
    files_.push_back(std::make_shared<SafetensorsFile>(path_.parent_path() / name));
    for (const TensorEntry& tensor : files_.back()->tensors()) {
      const auto promised = weight_map.find(tensor.name);
      check(
          promised != weight_map.end() && promised->second == name,
          path_.string(),
          ": tensor ",
          quote(tensor.name),
          " lies in ",
          name,
          ", by the index ",
          promised == weight_map.end() ? "in no file" : "in " + promised->second);
      file_by_name_.emplace(tensor.name, files_.size() - 1);
    }
  }
  for (const auto& [tensor, file] : weight_map) {
    check(
        file_by_name_.contains(tensor),
        path_.string(),
        ": tensor ",
        quote(tensor),
        " is not in ",
        file);
  }
}

const fs::path& SafetensorsFolder::path() const {
  return path_;
}

const std::vector<std::shared_ptr<const SafetensorsFile>>& SafetensorsFolder::files() const {
  return files_;
}

const TensorEntry* SafetensorsFolder::find(std::string_view name) const {
  const auto found = file_by_name_.find(name);
  return found == file_by_name_.end() ? nullptr : files_[found->second]->find(name);
}

std::shared_ptr<const SafetensorsFile> SafetensorsFolder::file_of(std::string_view name) const {
  const auto found = file_by_name_.find(name);
  return found == file_by_name_.end() ? nullptr : files_[found->second];
}

std::vector<std::string> SafetensorsFolder::names() const {
  std::vector<std::string> names;
  names.reserve(file_by_name_.size());
  for (const auto& [name, file] : file_by_name_) {
    names.emplace_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

int64_t SafetensorsFolder::total_bytes() const {
  int64_t total = 0;
  for (const auto& file : files_) {
    for (const TensorEntry& tensor : file->tensors()) {
      total += static_cast<int64_t>(tensor.bytes.size());
    }
  }
  return total;
}

} // namespace moe
