#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "moe/data/tokenizer/json_members_internal.h"
#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

using IdByToken = std::unordered_map<std::string_view, int32_t>;

/// The ids by token; the keys are views into `vocabulary`.
IdByToken index_tokens(const std::vector<VocabularyEntry>& vocabulary);

/// The `model` of a `tokenizer.json`, of type BPE: vocabulary, merges and options. What changes
/// the encoding and is not supported is an `Error` that names the key.
BpeDefinition parse_bpe_model(const Json& root);

} // namespace moe
