#include "moe/checkpoint/generation_config.h"

#include "moe/checkpoint/foreign_ids_internal.h"
#include "moe/error.h"
#include "moe/files/json_internal.h"

namespace moe {

EndOfText read_end_of_text(
    const std::filesystem::path& folder, const ConfigExtras& config, int64_t vocab_size) {
  const auto file = folder / "generation_config.json";
  std::error_code error;
  if (!std::filesystem::is_regular_file(file, error)) {
    return {{config.eos_token_ids.begin(), config.eos_token_ids.end()}, {}};
  }
  const auto object = read_json_object(file);
  const auto entry = object.find("eos_token_id");
  if (entry == object.end() || entry->is_null()) {
    return {};
  }
  EndOfText end;
  std::vector<int64_t> foreign;
  for (const auto& value : entry->is_array() ? *entry : Json::array({*entry})) {
    const bool is_id = value.is_number_unsigned() && value.get<uint64_t>() <= INT64_MAX;
    check(is_id, file.string(), ": eos_token_id: ", value.dump(), " is no token id");
    const auto id = value.get<int64_t>();
    if (id < vocab_size) {
      end.ids.push_back(static_cast<int32_t>(id));
    } else {
      foreign.push_back(id);
    }
  }
  if (!foreign.empty()) {
    end.notices.push_back(
        file.string() + ": " + foreign_ids_notice("eos_token_id", foreign, vocab_size));
  }
  return end;
}

} // namespace moe
