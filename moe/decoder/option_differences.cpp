#include "moe/decoder/option_differences.h"

#include <sstream>
#include <utility>

namespace moe {
namespace {

// The fields of options as text, for comparison and for messages.
class FieldTexts {
 public:
  explicit FieldTexts(const DecoderOptions& options) {
    DecoderOptions::visit_fields(options, *this);
  }

  template <class Value>
  void operator()(const char* name, const Value& value, const char*) {
    std::ostringstream text;
    append(text, value);
    values_.emplace_back(name, text.str());
  }

  const std::vector<std::pair<std::string, std::string>>& values() const {
    return values_;
  }

 private:
  static void append(std::ostringstream& text, bool value) {
    text << (value ? "true" : "false");
  }
  static void append(std::ostringstream& text, int64_t value) {
    text << value;
  }
  // With the digits that survive a reciprocal and back.
  static void append(std::ostringstream& text, double value) {
    text.precision(12);
    text << value;
  }
  static void append(std::ostringstream& text, const std::string& value) {
    text << value;
  }
  template <class Item>
  static void append(std::ostringstream& text, const std::vector<Item>& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      text << (i > 0 ? " " : "");
      append(text, values[i]);
    }
  }

  std::vector<std::pair<std::string, std::string>> values_;
};

} // namespace

std::vector<std::string> option_differences(
    const DecoderOptions& options, const DecoderOptions& other) {
  const FieldTexts ours(canonical(options));
  const FieldTexts theirs(canonical(other));
  std::vector<std::string> names;
  for (size_t i = 0; i < ours.values().size(); ++i) {
    const auto& [name, value] = ours.values()[i];
    if (value != theirs.values()[i].second) {
      names.push_back(name + " (" + value + ")");
    }
  }
  return names;
}

} // namespace moe
