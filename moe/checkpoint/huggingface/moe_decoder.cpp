#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

// Reads a field of DecoderOptions from the key of its name.
struct FieldReader {
  ConfigReader& reader;

  void operator()(const char* name, int64_t& field, const char*) const {
    field = reader.integer(name, /*least=*/0, field);
  }
  void operator()(const char* name, double& field, const char*) const {
    field = reader.number(name, field);
  }
  void operator()(const char* name, bool& field, const char*) const {
    field = reader.flag(name, field);
  }
  void operator()(const char* name, std::string& field, const char*) const {
    field = reader.text(name, field);
  }
  void operator()(const char* name, std::vector<int64_t>& field, const char*) const {
    field = reader.integers(name);
  }
  void operator()(const char* name, std::vector<double>& field, const char*) const {
    field = reader.numbers(name);
  }
};

void write_moe_decoder(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  DecoderOptions::visit_fields(
      options, [&](const char* name, const auto& field, const char*) { config[name] = field; });
  config["load_balancing_weight"] = extras.load_balancing_weight;
  config["torch_dtype"] = extras.dtype;
  config["bos_token_id"] =
      extras.bos_token_id ? OrderedJson(*extras.bos_token_id) : OrderedJson(nullptr);
  config["eos_token_id"] = extras.eos_token_ids;
}

void read_moe_decoder(ConfigReader& reader, ReadConfig& config) {
  DecoderOptions& options = config.options;
  ConfigExtras& extras = config.extras;
  DecoderOptions::visit_fields(options, FieldReader{reader});
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

const Family kMoeDecoder{"moe_decoder", write_moe_decoder, read_moe_decoder, nullptr};

} // namespace moe
