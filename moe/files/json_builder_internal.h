#pragma once

// Private to the library: not installed, because it shows nlohmann-json.

#include <string>
#include <string_view>
#include <vector>

#include "moe/files/json_internal.h"

namespace moe {

/// Builds a value from the events of a parser: what `parse_json` does. The JSON library's own
/// builder keeps the last of two equal keys, and knows no limits. Whoever wants some part
/// otherwise than as JSON values takes its events in a class of their own.
class JsonBuilder : public nlohmann::json_sax<Json> {
 public:
  /// `file` names the text in errors.
  JsonBuilder(std::string_view text, const std::string& file, const JsonLimits& limits);

  /// Once: the value of the whole text.
  Json parse();

  bool null() override;
  bool boolean(bool value) override;
  bool number_integer(number_integer_t value) override;
  bool number_unsigned(number_unsigned_t value) override;
  bool number_float(number_float_t value, const string_t& text) override;
  bool string(string_t& value) override;
  bool binary(binary_t& value) override;
  bool start_object(size_t size) override;
  bool start_array(size_t size) override;
  bool key(string_t& name) override;
  bool end_object() override;
  bool end_array() override;
  bool parse_error(
      size_t position, const std::string& token, const Json::exception& error) override;

 protected:
  /// Containers that are open.
  size_t depth() const {
    return stack_.size();
  }
  /// The key that was read last.
  const std::string& last_key() const {
    return key_;
  }
  /// Throws `Error` where there are too many values.
  void count_value();

 private:
  bool add(Json value);
  bool open(Json container);
  Json* place(Json value);

  std::string_view text_;
  const std::string& file_;
  JsonLimits limits_;
  Json root_;
  std::vector<Json*> stack_;
  std::string key_;
  size_t count_ = 0;
};

} // namespace moe
