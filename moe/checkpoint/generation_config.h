#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "moe/checkpoint/huggingface/config.h"

namespace moe {

/// The ids that end a text: those that the folder's `generation_config.json` names, or without
/// it those of `config.json`. Throws `Error` that names the file when it is damaged.
std::vector<int32_t> end_of_text_ids(
    const std::filesystem::path& folder, const ConfigExtras& config);

} // namespace moe
