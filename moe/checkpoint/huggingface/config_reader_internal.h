#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "moe/error.h"
#include "moe/files/json_internal.h"

namespace moe {

/// Takes values out of a `config.json` and remembers which keys were asked for. Every getter
/// throws `Error` naming file and key for a value of the wrong type or out of range.
class ConfigReader {
 public:
  /// `json` must outlive the reader.
  ConfigReader(const Json& json, std::string file);

  /// A count or width from 1 to 2^31 - 1. Without `fallback` it must be there; with one, null
  /// counts as missing.
  int64_t size(const std::string& key, std::optional<int64_t> fallback = std::nullopt);

  /// A whole number from `least` to 2^62.
  int64_t integer(const std::string& key, int64_t least, int64_t fallback);

  /// A finite number.
  double number(const std::string& key, double fallback);

  /// A finite number above 0.
  double positive(const std::string& key, double fallback);

  bool flag(const std::string& key, bool fallback);
  std::string text(const std::string& key, std::optional<std::string> fallback = std::nullopt);

  /// A list of whole numbers; missing and null are the empty list.
  std::vector<int64_t> integers(const std::string& key);

  /// A list of finite numbers.
  std::vector<double> numbers(const std::string& key);

  /// A list of texts, or nothing when it is missing or null.
  std::optional<std::vector<std::string>> texts(const std::string& key);

  /// A token id or a list of them; missing and null are the empty list. Those that are not
  /// below `vocab_size` are left out, with a notice: no text has them.
  std::vector<int64_t> token_ids(const std::string& key, int64_t vocab_size);

  /// Whether the key is there with another value than null.
  bool has(const std::string& key);

  /// Whether the key is there with the value null, a list, a text or a number.
  bool is_null(const std::string& key);
  bool is_list(const std::string& key);
  bool is_text(const std::string& key);
  bool is_number(const std::string& key);

  /// The object under `key`, or an empty one.
  const Json& object(const std::string& key);

  /// Throws unless the key is missing, null or has this neutral value: other values change the
  /// arithmetic in a way that is not supported.
  void require_neutral(const std::string& key, const Json& neutral = nullptr);

  /// Keys that do not change what the model computes.
  void ignore(std::initializer_list<const char*> keys);

  /// Whether something has asked for the key.
  bool was_read(const std::string& key) const;

  /// Keys that nothing has asked for yet.
  std::vector<std::string> unread() const;

  /// Throws `Error`: the file, the key, what was found and `expected`.
  [[noreturn]] void fail_value(const std::string& key, std::string_view expected) const;

  const std::string& file() const;

  /// What was left out, one line each.
  const std::vector<std::string>& notices() const;

 private:
  const Json* find(const std::string& key);

  const Json& json_;
  std::string file_;
  std::set<std::string> read_;
  std::vector<std::string> notices_;
};

} // namespace moe
