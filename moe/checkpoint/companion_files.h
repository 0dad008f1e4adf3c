#pragma once

#include <array>
#include <filesystem>

namespace moe {

/// Files beside the weights and the tokenizer that say how a model is used. Programs that write
/// a model anew pass them on as they are.
constexpr std::array<const char*, 5> kCompanionFiles = {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
    "new_experts.json"};

/// Copies tokenizer.json and the companion files that are there.
void copy_companions(const std::filesystem::path& from, const std::filesystem::path& to);

} // namespace moe
