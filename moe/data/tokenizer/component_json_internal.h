#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <string>
#include <vector>

#include "moe/data/tokenizer/json_members_internal.h"
#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// The parts of the component `key`, where `Sequence`s (with their `list`) in `Sequence`s count
/// as one list. None where it is null.
std::vector<const Json*> component_parts(const Json& root, const char* key, const char* list);

/// Throws `Error`: the component `where` has a type that is not among the `supported`.
[[noreturn]] void refuse_component(
    const std::string& where, const Json& component, const char* supported);

/// Read `normalizer`, `pre_tokenizer` (which says whether tokens are bytes) and `decoder` of a
/// `tokenizer.json` into the definition. What changes the result and is not supported is an
/// `Error` that names it.
void parse_normalizer(const Json& root, TokenizerDefinition& definition);
void parse_pre_tokenizer(const Json& root, TokenizerDefinition& definition);
void parse_decoder(const Json& root, TokenizerDefinition& definition);

} // namespace moe
