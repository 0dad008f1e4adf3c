#include "moe/checkpoint/new_experts.h"

#include <string>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/json_internal.h"

namespace moe {
namespace {

constexpr const char* kFile = "new_experts.json";

std::vector<int64_t> read_layer(const Json& layer, const std::string& file) {
  std::vector<int64_t> experts;
  for (const Json& expert : layer.at("experts")) {
    experts.push_back(expert.get<int64_t>());
    const bool ascends = experts.size() < 2 || experts[experts.size() - 2] < experts.back();
    check(
        experts.back() >= 0 && ascends,
        file,
        ": experts must be indices from 0 in ascending order, found ",
        expert.dump());
  }
  return experts;
}

} // namespace

void write_new_experts(const std::filesystem::path& folder, const NewExperts& experts) {
  OrderedJson layers = OrderedJson::array();
  for (const auto& [layer, added] : experts) {
    layers.push_back({{"layer", layer}, {"experts", added}});
  }
  write_file_atomically(folder / kFile, OrderedJson{{"layers", layers}}.dump(2) + "\n");
}

NewExperts read_new_experts(const std::filesystem::path& folder) {
  const auto path = folder / kFile;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) {
    return {};
  }
  const auto file = path.string();
  const Json json = read_json_object(path);
  NewExperts result;
  try {
    for (const Json& layer : json.at("layers")) {
      result[layer.at("layer").get<int64_t>()] = read_layer(layer, file);
    }
  } catch (const Json::exception&) {
    fail(file, ": expected {\"layers\": [{\"layer\": 0, \"experts\": [8, 9]}]}");
  }
  return result;
}

} // namespace moe
