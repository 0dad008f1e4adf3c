#include <algorithm>
#include <utility>
#include <vector>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/json_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

// Builds the value from the parser's events. The library's own builder keeps the last of two
// equal keys, and knows no limits.
class Builder : public nlohmann::json_sax<Json> {
 public:
  Builder(std::string_view text, const std::string& file, const JsonLimits& limits)
      : text_(text), file_(file), limits_(limits) {}

  Json take() {
    return std::move(root_);
  }

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
    return false; // never in JSON text
  }
  bool start_object(size_t) override {
    return open(Json::object());
  }
  bool start_array(size_t) override {
    return open(Json::array());
  }
  bool key(string_t& name) override {
    key_ = std::move(name);
    check(!stack_.back()->contains(key_), file_, ": key ", quote(key_), " occurs twice");
    return true;
  }
  bool end_object() override {
    stack_.pop_back();
    return true;
  }
  bool end_array() override {
    stack_.pop_back();
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    const size_t end = std::min(position, text_.size());
    const auto line = 1 + std::count(text_.begin(), text_.begin() + end, '\n');
    fail(file_, ": not valid JSON at byte ", position, " (line ", line, ")");
  }

 private:
  template <class Value>
  bool add(Value&& value) {
    place(std::forward<Value>(value));
    return true;
  }

  bool open(Json container) {
    check(
        stack_.size() < limits_.depth,
        file_,
        ": JSON nested deeper than ",
        limits_.depth,
        " levels");
    stack_.push_back(place(std::move(container)));
    return true;
  }

  Json* place(Json value) {
    check(++count_ <= limits_.values, file_, ": more than ", limits_.values, " JSON values");
    if (stack_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    if (stack_.back()->is_array()) {
      stack_.back()->push_back(std::move(value));
      return &stack_.back()->back();
    }
    Json& member = (*stack_.back())[key_];
    member = std::move(value);
    return &member;
  }

  std::string_view text_;
  const std::string& file_;
  JsonLimits limits_;
  Json root_;
  std::vector<Json*> stack_;
  std::string key_;
  size_t count_ = 0;
};

} // namespace

Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits) {
  // The parser below takes a NUL byte for the end of the text.
  const size_t nul = text.find('\0');
  check(nul == std::string_view::npos, file, ": not valid JSON at byte ", nul, " (a NUL byte)");
  Builder builder(text, file, limits);
  if (!Json::sax_parse(text.begin(), text.end(), &builder)) {
    fail(file, ": not valid JSON");
  }
  return builder.take();
}

Json read_json_object(const std::filesystem::path& path) {
  const std::string text = read_text_file(path);
  Json json = parse_json(text, path.string());
  check(
      json.is_object(),
      path.string(),
      ": expected a JSON object at the top level, found ",
      json.type_name());
  return json;
}

} // namespace moe
