#pragma once
// Private: not installed.

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "moe/error.h"

namespace moe::json_internal {

using Json = nlohmann::json;

/// Parses `text`. Throws `Error` on anything that is not JSON, on a key that an object has
/// twice (readers disagree about which one counts), and on nesting deeper than 100.
Json parse(std::string_view text);

/// `value` as JSON of at most about 60 bytes, for messages.
std::string shown(const Json& value);

/// The member `key` of `object`, or null where there is none.
const Json& member(const Json& object, const char* key);

/// Required members of a stated type. `where` names the object in the message.
const Json& object_member(const Json& object, const char* key, const std::string& where);
const Json& array_member(const Json& object, const char* key, const std::string& where);
const std::string& string_member(const Json& object, const char* key, const std::string& where);
bool bool_member(const Json& object, const char* key, const std::string& where);

/// An optional flag: absent means `otherwise`; null and other types are errors.
bool bool_member_or(
    const Json& object, const char* key, const std::string& where, bool otherwise);

/// A token id: an integer from 0 to 2^31 - 1.
int32_t token_id(const Json& value, const std::string& where);

} // namespace moe::json_internal
