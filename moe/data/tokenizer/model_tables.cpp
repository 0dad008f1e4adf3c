#include "moe/data/tokenizer/model_tables_internal.h"
#include "moe/files/json_builder_internal.h"

namespace moe {
namespace {

constexpr JsonLimits kLimits = {.depth = 100};

/// Thrown where a table holds something else than it should.
struct UnusualTable {};

/// Takes the entries of model.vocab and model.merges out of the events.
class TableReader : public JsonBuilder {
 public:
  using JsonBuilder::JsonBuilder;

  ModelTables take_tables() {
    return std::move(tables_);
  }

  bool null() override {
    return part_ == Part::other ? JsonBuilder::null() : unusual();
  }
  bool boolean(bool value) override {
    return part_ == Part::other ? JsonBuilder::boolean(value) : unusual();
  }
  bool number_integer(number_integer_t value) override {
    return part_ == Part::other ? JsonBuilder::number_integer(value) : unusual();
  }
  bool number_float(number_float_t value, const string_t& text) override {
    return part_ == Part::other ? JsonBuilder::number_float(value, text) : unusual();
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (part_ == Part::other) {
      return JsonBuilder::number_unsigned(value);
    }
    if (part_ != Part::vocabulary || value > INT32_MAX) {
      return unusual();
    }
    count_value();
    tables_.vocabulary.push_back({std::move(token_), static_cast<int32_t>(value)});
    return true;
  }

  bool string(string_t& value) override {
    switch (part_) {
      case Part::other:
        return JsonBuilder::string(value);
      case Part::vocabulary:
        return unusual();
      case Part::merges:
        return add_text_merge(value);
      case Part::pair:
        break;
    }
    count_value();
    pair_.push_back(std::move(value));
    return pair_.size() <= 2 || unusual();
  }

  bool key(string_t& name) override {
    if (part_ == Part::vocabulary) {
      token_ = std::move(name);
      return true;
    }
    return JsonBuilder::key(name);
  }

  bool start_object(size_t size) override {
    if (part_ != Part::other) {
      return unusual();
    }
    in_model_ = in_model_ || (depth() == 1 && last_key() == "model");
    const bool begins = in_model_ && depth() == 2 && last_key() == "vocab";
    JsonBuilder::start_object(size);
    part_ = begins ? Part::vocabulary : Part::other;
    return true;
  }

  bool end_object() override {
    part_ = Part::other;
    JsonBuilder::end_object();
    in_model_ = in_model_ && depth() > 1;
    return true;
  }

  bool start_array(size_t size) override {
    if (part_ == Part::merges) {
      count_value();
      part_ = Part::pair;
      pair_.clear();
      return true;
    }
    if (part_ != Part::other) {
      return unusual();
    }
    const bool begins = in_model_ && depth() == 2 && last_key() == "merges";
    JsonBuilder::start_array(size);
    part_ = begins ? Part::merges : Part::other;
    return true;
  }

  bool end_array() override {
    if (part_ == Part::pair) {
      if (pair_.size() != 2 || has_text_) {
        return unusual();
      }
      has_pairs_ = true;
      tables_.merges.emplace_back(std::move(pair_[0]), std::move(pair_[1]));
      part_ = Part::merges;
      return true;
    }
    part_ = Part::other;
    return JsonBuilder::end_array();
  }

 private:
  enum class Part { other, vocabulary, merges, pair };

  [[noreturn]] static bool unusual() {
    throw UnusualTable();
  }

  bool add_text_merge(const std::string& text) {
    const size_t space = text.find(' ');
    if (has_pairs_ || space == std::string::npos ||
        text.find(' ', space + 1) != std::string::npos) {
      return unusual();
    }
    has_text_ = true;
    count_value();
    tables_.merges.emplace_back(text.substr(0, space), text.substr(space + 1));
    return true;
  }

  ModelTables tables_;
  Part part_ = Part::other;
  bool in_model_ = false;
  bool has_text_ = false;
  bool has_pairs_ = false;
  std::string token_;
  std::vector<std::string> pair_;
};

} // namespace

TokenizerJson parse_tokenizer_tables(std::string_view text, const std::string& name) {
  try {
    TableReader reader(text, name, kLimits);
    TokenizerJson result;
    result.root = reader.parse();
    result.tables = reader.take_tables();
    return result;
  } catch (const UnusualTable&) {
    return {parse_json(text, name, kLimits), std::nullopt};
  }
}

} // namespace moe
