#include "moe/checkpoint/generation_config.h"

#include "moe/error.h"
#include "moe/files/json_internal.h"

namespace moe {

std::vector<int32_t> end_of_text_ids(
    const std::filesystem::path& folder, const ConfigExtras& config) {
  const auto file = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    return {config.eos_token_ids.begin(), config.eos_token_ids.end()};
  }
  const auto object = read_json_object(file);
  const auto entry = object.find("eos_token_id");
  if (entry == object.end() || entry->is_null()) {
    return {};
  }
  std::vector<int32_t> ids;
  for (const auto& value : entry->is_array() ? *entry : Json::array({*entry})) {
    const bool is_id = value.is_number_unsigned() && value.get<uint64_t>() <= INT32_MAX;
    check(is_id, file.string(), ": eos_token_id: ", value.dump(), " is no token id");
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

} // namespace moe
