#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace moe {

/// What the files beside `tokenizer.json` say: `tokenizer_config.json`, or in older folders
/// `special_tokens_map.json`, and `chat_template.jinja`. What is put around a text is not among
/// it: transformers, too, ignores `add_bos_token` and `add_eos_token` where there is a
/// `tokenizer.json`, whose post-processor says it.
struct TokenizerConfig {
  std::optional<std::string> bos_token;    ///< begins a text
  std::optional<std::string> eos_token;    ///< ends a text
  std::vector<std::string> special_tokens; ///< all that are named, these two included
  std::string chat_template;               ///< Jinja; empty where there is none
};

/// Reads these files of a folder; those that are missing say nothing. Throws `Error` that names
/// the file and the fault when one is damaged.
TokenizerConfig read_tokenizer_config(const std::filesystem::path& folder);

} // namespace moe
