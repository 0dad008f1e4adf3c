#include "moe/data/tokenizer/json_internal.h"

#include <cstdint>
#include <limits>
#include <vector>

#include "moe/data/utf8.h"

namespace moe::json_internal {
namespace {

constexpr size_t kMaxDepth = 100;
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
  check(
      ((*entry).*is_wanted)(),
      where,
      ".",
      key,
      ": expected ",
      wanted,
      ", found ",
      shown(*entry));
  return *entry;
}

/// Builds a value from the parser's events. (The library's own parser keeps the last of two
/// equal keys; its callbacks take quadratic time.)
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(Json& root) : root_(root) {}

  bool null() override {
    return add(nullptr);
  }
  bool boolean(bool value) override {
    return add(value);
  }
  bool number_integer(number_integer_t value) override {
    return add(value);
  }
  bool number_unsigned(number_unsigned_t value) override {
    return add(value);
  }
  bool number_float(number_float_t value, const string_t&) override {
    return add(value);
  }
  bool string(string_t& value) override {
    return add(std::move(value));
  }
  bool binary(binary_t&) override {
    return false; // JSON text has none
  }
  bool start_object(size_t) override {
    return open(Json::object());
  }
  bool start_array(size_t) override {
    return open(Json::array());
  }
  bool end_object() override {
    return close();
  }
  bool end_array() override {
    return close();
  }

  bool key(string_t& key) override {
    const auto [entry, is_new] = open_.back()->get_ref<Json::object_t&>().emplace(key, nullptr);
    check(is_new, "the key ", shown(key), " occurs twice");
    member_ = &entry->second;
    return true;
  }

  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    fail("not valid JSON at byte ", position);
  }

 private:
  Json& place(Json value) {
    if (open_.empty()) {
      return root_ = std::move(value);
    }
    if (open_.back()->is_array()) {
      return open_.back()->emplace_back(std::move(value));
    }
    return *member_ = std::move(value);
  }

  bool add(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json container) {
    check(open_.size() < kMaxDepth, "nested deeper than ", kMaxDepth, " levels");
    open_.push_back(&place(std::move(container)));
    return true;
  }

  bool close() {
    open_.pop_back();
    return true;
  }

  Json& root_;
  std::vector<Json*> open_; ///< containers that the parser is inside of
  Json* member_ = nullptr;  ///< where the value of the last key goes
};

} // namespace

Json parse(std::string_view text) {
  Json root;
  Builder builder(root);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return root;
}

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
  check(is_in_range, where, ": expected a token id from 0 to 2^31 - 1, found ", shown(value));
  return value.get<int32_t>();
}

} // namespace moe::json_internal
