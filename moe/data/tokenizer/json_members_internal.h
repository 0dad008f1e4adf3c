#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <cstdint>
#include <string>

#include "moe/files/json_internal.h"

namespace moe::json_members {

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

} // namespace moe::json_members
