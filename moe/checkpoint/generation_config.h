#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"

namespace moe {

/// The ids that end a text.
struct EndOfText {
  std::vector<int32_t> ids;
  std::vector<std::string> notices; ///< one line each: ids that were ignored
};

/// Those that the folder's `generation_config.json` names, or without it those of
/// `config.json`. Ids that the vocabulary does not have are left out. Throws `Error` that names
/// the file when it is damaged.
EndOfText read_end_of_text(
    const std::filesystem::path& folder, const ConfigExtras& config, int64_t vocab_size);

} // namespace moe
