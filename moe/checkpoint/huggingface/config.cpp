#include "moe/checkpoint/huggingface/config.h"

#include <utility>

#include "moe/checkpoint/huggingface/family_internal.h"
#include "moe/error.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

std::string known_families() {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    names.emplace_back(family->model_type);
  }
  return joined(names);
}

const Family* find_family(std::string_view model_type) {
  for (const Family* family : families()) {
    if (family->model_type == model_type) {
      return family;
    }
  }
  return nullptr;
}

// The family to write, with a notice when it is our own: what the nearest other one lacks.
std::pair<const Family*, std::vector<std::string>> choose_family(
    const DecoderOptions& options) {
  const Family* nearest = nullptr;
  std::vector<std::string> fewest;
  for (const Family* family : families()) {
    auto obstacles = family->obstacles(options);
    if (obstacles.empty()) {
      if (nearest == nullptr || family != &kMoeDecoder) {
        return {family, {}};
      }
      return {
          family,
          {"config.json: written as moe_decoder, which transformers does not read: " +
           std::string(nearest->model_type) + " has no " + joined(fewest)}};
    }
    if (nearest == nullptr || obstacles.size() < fewest.size()) {
      nearest = family;
      fewest = std::move(obstacles);
    }
  }
  fail("config.json: no architecture expresses these options");
}

// Keys by which other architectures change the arithmetic. A family that has one has read it by
// now; in a configuration of another family they ask for more than would be computed.
void refuse_foreign_arithmetic(ConfigReader& reader) {
  for (const char* key :
       {"quantization_config",
        "clip_qkv",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "logits_scaling",
        "attention_multiplier",
        "embedding_multiplier",
        "residual_multiplier",
        "partial_rotary_factor",
        "n_shared_experts",
        "shared_expert_intermediate_size",
        "routed_scaling_factor",
        "n_group",
        "topk_group",
        "scoring_func",
        "per_layer_config"}) {
    if (!reader.was_read(key)) {
      reader.require_neutral(key);
    }
  }
}

std::string generation_config(const ConfigExtras& extras) {
  OrderedJson json = OrderedJson::object();
  if (extras.bos_token_id) {
    json["bos_token_id"] = *extras.bos_token_id;
  }
  if (extras.eos_token_ids.size() == 1) {
    json["eos_token_id"] = extras.eos_token_ids[0];
  } else if (!extras.eos_token_ids.empty()) {
    json["eos_token_id"] = extras.eos_token_ids;
  }
  if (!extras.eos_token_ids.empty()) {
    json["pad_token_id"] = extras.eos_token_ids[0];
  }
  return json.dump(2) + "\n";
}

} // namespace

const std::vector<const Family*>& families() {
  static const std::vector<const Family*> all{&kQwen3, &kQwen3Moe, &kMoeDecoder};
  return all;
}

WrittenConfig write_config(const DecoderOptions& options, const ConfigExtras& extras) {
  validate(options);
  const auto [family, notices] = choose_family(options);
  OrderedJson config;
  config["model_type"] = family->model_type;
  family->write(options, extras, config);
  return {
      std::string(family->model_type),
      config.dump(2) + "\n",
      generation_config(extras),
      notices};
}

ReadConfig read_config(const std::string& text, const std::string& file) {
  const Json json = parse_json(text, file);
  check(json.is_object(), file, ": expected a JSON object, found ", json.type_name());
  ConfigReader reader(json, file);
  const std::string model_type = reader.text("model_type");
  const Family* family = find_family(model_type);
  check(
      family != nullptr,
      file,
      ": model_type ",
      quote(model_type),
      " is not supported; known are ",
      known_families());
  ReadConfig config;
  config.family = model_type;
  family->read(reader, config.options, config.extras);
  refuse_foreign_arithmetic(reader);
  try {
    validate(config.options);
  } catch (const Error& error) {
    fail(file, ": ", error.what());
  }
  if (const auto ignored = reader.unread(); !ignored.empty()) {
    config.notices.push_back(file + ": ignored keys that " + model_type + " does not have: ");
    for (const std::string& key : ignored) {
      config.notices.back() += (key == ignored.front() ? "" : ", ") + quote(key);
    }
  }
  return config;
}

std::vector<TensorLayout> tensor_layouts(
    const std::string& family, const DecoderOptions& options) {
  const Family* found = find_family(family);
  check(found != nullptr, "no architecture is named ", quote(family));
  std::vector<TensorLayout> layouts;
  for (NamedShape& ours : decoder_tensors(options)) {
    auto stored = found->stored(options, ours);
    layouts.push_back({std::move(ours), std::move(stored)});
  }
  return layouts;
}

} // namespace moe
