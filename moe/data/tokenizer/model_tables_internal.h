#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"
#include "moe/files/json_internal.h"

namespace moe {

/// The big tables of a `tokenizer.json`, as they are in the file. A JSON value for each of
/// their 100,000s of entries would take most of the time of loading.
struct ModelTables {
  std::vector<VocabularyEntry> vocabulary;                 ///< model.vocab
  std::vector<std::pair<std::string, std::string>> merges; ///< model.merges, in either spelling
};

/// A parsed `tokenizer.json`: without `tables` complete, else with these two empty in `root`.
struct TokenizerJson {
  Json root;
  std::optional<ModelTables> tables;
};

/// Parses the text. Where the tables are not as they should be they stay in `root`, for whoever
/// says what is wrong. Throws `Error` that begins with `name` for what is no JSON.
TokenizerJson parse_tokenizer_tables(std::string_view text, const std::string& name);

} // namespace moe
