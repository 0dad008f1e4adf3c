#include <algorithm>

#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

OptionValue read_value(
    ConfigReader& reader, const OptionRow<DecoderOptions>& row, const DecoderOptions& options) {
  const OptionValue fallback = row.read(options);
  const std::string& key = row.key;
  if (const auto* truth = std::get_if<bool>(&fallback)) {
    return reader.flag(key, *truth);
  }
  if (const auto* whole = std::get_if<int64_t>(&fallback)) {
    return reader.integer(key, /*least=*/0, *whole);
  }
  if (const auto* number = std::get_if<double>(&fallback)) {
    return reader.number(key, *number);
  }
  if (std::holds_alternative<std::vector<int64_t>>(fallback)) {
    return reader.integers(key);
  }
  if (std::holds_alternative<std::vector<double>>(fallback)) {
    return reader.numbers(key);
  }
  const std::string text = reader.text(key, std::get<std::string>(fallback));
  const auto& choices = row.traits.choices;
  if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
    reader.fail_value(key, either_of(choices));
  }
  return text;
}

void write_moe_decoder(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  for (const auto& row : option_table<DecoderOptions>()) {
    write_option(row, options, config);
  }
  config["load_balancing_weight"] = extras.load_balancing_weight;
  config["torch_dtype"] = extras.dtype;
  config["bos_token_id"] =
      extras.bos_token_id ? OrderedJson(*extras.bos_token_id) : OrderedJson(nullptr);
  config["eos_token_id"] = extras.eos_token_ids;
}

void read_moe_decoder(ConfigReader& reader, ReadConfig& config) {
  DecoderOptions& options = config.options;
  ConfigExtras& extras = config.extras;
  for (const auto& row : option_table<DecoderOptions>()) {
    read_option(reader, row, options);
  }
  options.vocab_size = reader.size("vocab_size");
  extras.load_balancing_weight = reader.number("load_balancing_weight", 0.0);
  extras.dtype = reader.text("torch_dtype", "float32");
  const auto begin = reader.token_ids("bos_token_id", options.vocab_size);
  if (!begin.empty()) {
    extras.bos_token_id = begin[0];
  }
  extras.eos_token_ids = reader.token_ids("eos_token_id", options.vocab_size);
  reader.ignore({"model_type"});
  // The format is ours: an unknown key was written by a newer version and means something.
  for (const std::string& key : reader.unread()) {
    reader.fail_value(key, "no such key: this version does not know it");
  }
}

} // namespace

void write_option(
    const OptionRow<DecoderOptions>& row, const DecoderOptions& options, OrderedJson& config) {
  std::visit([&](const auto& value) { config[row.key] = value; }, row.read(options));
}

void read_option(
    ConfigReader& reader, const OptionRow<DecoderOptions>& row, DecoderOptions& options) {
  row.write(options, read_value(reader, row, options));
}

const Family kMoeDecoder{"moe_decoder", write_moe_decoder, read_moe_decoder, nullptr};

} // namespace moe
