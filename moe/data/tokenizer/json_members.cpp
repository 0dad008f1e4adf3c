#include "moe/data/tokenizer/json_members_internal.h"

#include <cstdint>
#include <limits>

#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe::json_members {
namespace {

constexpr size_t kMaxShown = 60;

const Json& checked_member(
    const Json& object,
    const char* key,
    const std::string& where,
    bool (Json::*is_wanted)() const noexcept,
    const char* wanted) {
  check(object.is_object(), where, ": expected an object, found ", shown(object));
  const auto entry = object.find(key);
  check(entry != object.end(), where, ": \"", key, "\" is missing; expected ", wanted);
  if (!((*entry).*is_wanted)()) {
    fail(where, ".", key, ": expected ", wanted, ", found ", shown(*entry));
  }
  return *entry;
}

} // namespace

std::string shown(const Json& value) {
  if (value.is_structured() && !value.empty()) {
    return value.is_array() ? "an array" : "an object";
  }
  std::string text = value.dump();
  if (text.size() > kMaxShown) {
    text.resize(kMaxShown);
    text.resize(text.size() - incomplete_utf8_suffix(text));
    text += "...";
  }
  return text;
}

const Json& member(const Json& object, const char* key) {
  static const Json null;
  const auto entry = object.find(key);
  return entry == object.end() ? null : *entry;
}

const Json& object_member(const Json& object, const char* key, const std::string& where) {
  return checked_member(object, key, where, &Json::is_object, "an object");
}

const Json& array_member(const Json& object, const char* key, const std::string& where) {
  return checked_member(object, key, where, &Json::is_array, "an array");
}

const std::string& string_member(
    const Json& object, const char* key, const std::string& where) {
  return checked_member(object, key, where, &Json::is_string, "a string")
      .get_ref<const std::string&>();
}

bool bool_member(const Json& object, const char* key, const std::string& where) {
  return checked_member(object, key, where, &Json::is_boolean, "true or false").get<bool>();
}

bool bool_member_or(
    const Json& object, const char* key, const std::string& where, bool otherwise) {
  return object.contains(key) ? bool_member(object, key, where) : otherwise;
}

int32_t token_id(const Json& value, const std::string& where) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  const bool is_in_range = value.is_number_unsigned()
                               ? value.get<uint64_t>() <= static_cast<uint64_t>(kMax)
                               : value.is_number_integer() && value.get<int64_t>() >= 0;
  if (!is_in_range) {
    fail(where, ": expected a token id from 0 to 2^31 - 1, found ", shown(value));
  }
  return value.get<int32_t>();
}

} // namespace moe::json_members
