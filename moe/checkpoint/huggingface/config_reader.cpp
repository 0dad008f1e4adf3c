#include <cmath>
#include <limits>
#include <utility>

#include "moe/checkpoint/foreign_ids_internal.h"
#include "moe/checkpoint/huggingface/config_reader_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

constexpr int64_t kLargestSize = std::numeric_limits<int32_t>::max();
constexpr int64_t kLargestInteger = int64_t{1} << 62;

bool is_integer_in(const Json& value, int64_t least, int64_t most) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    return number <= static_cast<uint64_t>(most) && static_cast<int64_t>(number) >= least;
  }
  return value.is_number_integer() && value.get<int64_t>() >= least &&
         value.get<int64_t>() <= most;
}

std::string range_text(int64_t least, int64_t most) {
  return "a whole number from " + std::to_string(least) + " to " + std::to_string(most);
}

} // namespace

ConfigReader::ConfigReader(const Json& json, std::string file)
    : json_(json), file_(std::move(file)) {}

const Json* ConfigReader::find(const std::string& key) {
  read_.insert(key);
  const auto found = json_.find(key);
  return found == json_.end() ? nullptr : &*found;
}

void ConfigReader::fail_value(const std::string& key, std::string_view expected) const {
  const auto found = json_.find(key);
  if (found == json_.end()) {
    fail(file_, ": ", key, " is missing; expected ", expected);
  }
  const std::string text = found->dump(
      /*indent=*/-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  fail(file_, ": ", key, " is ", text.substr(0, 100), "; expected ", expected);
}

int64_t ConfigReader::size(const std::string& key, std::optional<int64_t> fallback) {
  const Json* value = find(key);
  if (fallback && (value == nullptr || value->is_null())) {
    return *fallback;
  }
  if (value == nullptr || !is_integer_in(*value, 1, kLargestSize)) {
    fail_value(key, range_text(1, kLargestSize));
  }
  return value->get<int64_t>();
}

int64_t ConfigReader::integer(const std::string& key, int64_t least, int64_t fallback) {
  const Json* value = find(key);
  if (value == nullptr) {
    return fallback;
  }
  if (!is_integer_in(*value, least, kLargestInteger)) {
    fail_value(key, range_text(least, kLargestInteger));
  }
  return value->get<int64_t>();
}

double ConfigReader::number(const std::string& key, double fallback) {
  const Json* value = find(key);
  if (value == nullptr) {
    return fallback;
  }
  if (!value->is_number() || !std::isfinite(value->get<double>())) {
    fail_value(key, "a finite number");
  }
  return value->get<double>();
}

double ConfigReader::positive(const std::string& key, double fallback) {
  const double value = number(key, fallback);
  if (value <= 0.0) {
    fail_value(key, "a number above 0");
  }
  return value;
}

bool ConfigReader::flag(const std::string& key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) {
    return fallback;
  }
  if (!value->is_boolean()) {
    fail_value(key, "true or false");
  }
  return value->get<bool>();
}

std::string ConfigReader::text(const std::string& key, std::optional<std::string> fallback) {
  const Json* value = find(key);
  if (fallback && value == nullptr) {
    return *fallback;
  }
  if (value == nullptr || !value->is_string()) {
    fail_value(key, "a text");
  }
  return value->get<std::string>();
}

std::vector<int64_t> ConfigReader::integers(const std::string& key) {
  const Json* value = find(key);
  std::vector<int64_t> result;
  if (value == nullptr || value->is_null()) {
    return result;
  }
  if (!value->is_array()) {
    fail_value(key, "a list of whole numbers");
  }
  for (const Json& item : *value) {
    if (!is_integer_in(item, 0, kLargestSize)) {
      fail_value(key, "a list of whole numbers of at least 0");
    }
    result.push_back(item.get<int64_t>());
  }
  return result;
}

std::vector<double> ConfigReader::numbers(const std::string& key) {
  const Json* value = find(key);
  std::vector<double> result;
  if (value == nullptr || value->is_null()) {
    return result;
  }
  if (!value->is_array()) {
    fail_value(key, "a list of numbers");
  }
  for (const Json& item : *value) {
    if (!item.is_number() || !std::isfinite(item.get<double>())) {
      fail_value(key, "a list of finite numbers");
    }
    result.push_back(item.get<double>());
  }
  return result;
}

std::optional<std::vector<std::string>> ConfigReader::texts(const std::string& key) {
  const Json* value = find(key);
  if (value == nullptr || value->is_null()) {
    return std::nullopt;
  }
  if (!value->is_array()) {
    fail_value(key, "a list of texts");
  }
  std::vector<std::string> result;
  for (const Json& item : *value) {
    if (!item.is_string()) {
      fail_value(key, "a list of texts");
    }
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<int64_t> ConfigReader::token_ids(const std::string& key, int64_t vocab_size) {
  const Json* value = find(key);
  if (value == nullptr || value->is_null()) {
    return {};
  }
  std::vector<int64_t> ids;
  std::vector<int64_t> foreign;
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& item : list) {
    if (!is_integer_in(item, 0, kLargestInteger)) {
      fail_value(key, "token ids from 0 to vocab_size - 1 = " + std::to_string(vocab_size - 1));
    }
    const auto id = item.get<int64_t>();
    (id < vocab_size ? ids : foreign).push_back(id);
  }
  if (!foreign.empty()) {
    notices_.push_back(file_ + ": " + foreign_ids_notice(key, foreign, vocab_size));
  }
  return ids;
}

bool ConfigReader::has(const std::string& key) {
  const Json* value = find(key);
  return value != nullptr && !value->is_null();
}

bool ConfigReader::is_null(const std::string& key) {
  const Json* value = find(key);
  return value != nullptr && value->is_null();
}

bool ConfigReader::is_list(const std::string& key) {
  const Json* value = find(key);
  return value != nullptr && value->is_array();
}

bool ConfigReader::is_text(const std::string& key) {
  const Json* value = find(key);
  return value != nullptr && value->is_string();
}

bool ConfigReader::is_number(const std::string& key) {
  const Json* value = find(key);
  return value != nullptr && value->is_number();
}

const Json& ConfigReader::object(const std::string& key) {
  static const Json empty = Json::object();
  const Json* value = find(key);
  if (value == nullptr || value->is_null()) {
    return empty;
  }
  if (!value->is_object()) {
    fail_value(key, "an object");
  }
  return *value;
}

void ConfigReader::require_neutral(const std::string& key, const Json& neutral) {
  const Json* value = find(key);
  if (value != nullptr && !value->is_null() && *value != neutral) {
    fail_value(
        key,
        neutral.is_null() ? "no such key: it is not supported"
                          : neutral.dump() + ": other values are not supported");
  }
}

void ConfigReader::ignore(std::initializer_list<const char*> keys) {
  read_.insert(keys.begin(), keys.end());
}

bool ConfigReader::was_read(const std::string& key) const {
  return read_.contains(key);
}

std::vector<std::string> ConfigReader::unread() const {
  std::vector<std::string> keys;
  for (const auto& [key, value] : json_.items()) {
    if (!read_.contains(key)) {
      keys.push_back(key);
    }
  }
  return keys;
}

const std::string& ConfigReader::file() const {
  return file_;
}

const std::vector<std::string>& ConfigReader::notices() const {
  return notices_;
}

} // namespace moe
