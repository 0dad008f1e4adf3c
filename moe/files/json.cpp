#include <algorithm>
#include <utility>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "moe/files/json_builder_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
JsonBuilder::JsonBuilder(
    std::string_view text, const std::string& file, const JsonLimits& limits)
    : text_(text), file_(file), limits_(limits) {}

Json JsonBuilder::parse() {
  // The parser below takes a NUL byte for the end of the text.
  const size_t nul = text_.find('\0');
  check(
      nul == std::string_view::npos, file_, ": not valid JSON at byte ", nul, " (a NUL byte)");
  if (!Json::sax_parse(text_.begin(), text_.end(), this)) {
    fail(file_, ": not valid JSON");
  }
  return std::move(root_);
}

bool JsonBuilder::null() {
  return add(nullptr);
}

bool JsonBuilder::boolean(bool value) {
  return add(value);
}

bool JsonBuilder::number_integer(number_integer_t value) {
  return add(value);
}

bool JsonBuilder::number_unsigned(number_unsigned_t value) {
  return add(value);
}

bool JsonBuilder::number_float(number_float_t value, const string_t& /*text*/) {
  return add(value);
}

bool JsonBuilder::string(string_t& value) {
  return add(std::move(value));
}

bool JsonBuilder::binary(binary_t& /*value*/) {
  return false; // never in JSON text
}

bool JsonBuilder::start_object(size_t /*size*/) {
  return open(Json::object());
}

bool JsonBuilder::start_array(size_t /*size*/) {
  return open(Json::array());
}

bool JsonBuilder::key(string_t& name) {
  key_ = std::move(name);
  check(!stack_.back()->contains(key_), file_, ": key ", quote(key_), " occurs twice");
  return true;
}

bool JsonBuilder::end_object() {
  stack_.pop_back();
  return true;
}

bool JsonBuilder::end_array() {
  stack_.pop_back();
  return true;
}

bool JsonBuilder::parse_error(
    size_t position, const std::string& /*token*/, const Json::exception& /*error*/) {
  const size_t end = std::min(position, text_.size());
  const auto line = 1 + std::count(text_.begin(), text_.begin() + end, '\n');
  fail(file_, ": not valid JSON at byte ", position, " (line ", line, ")");
}

void JsonBuilder::count_value() {
  check(++count_ <= limits_.values, file_, ": more than ", limits_.values, " JSON values");
}

bool JsonBuilder::add(Json value) {
  place(std::move(value));
  return true;
}

bool JsonBuilder::open(Json container) {
  check(
      stack_.size() < limits_.depth,
      file_,
      ": JSON nested deeper than ",
      limits_.depth,
      " levels");
  stack_.push_back(place(std::move(container)));
  return true;
}

Json* JsonBuilder::place(Json value) {
  count_value();
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

Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits) {
  return JsonBuilder(text, file, limits).parse();
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
