#include "moe/checkpoint/huggingface/config.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>
#include <utility>

#include "moe/checkpoint/huggingface/families_internal.h"
#include "moe/decoder/option_differences.h"
#include "moe/error.h"
#include "moe/files/quote_internal.h"
#include "moe/join_words_internal.h"

namespace moe {
namespace {

const Family* find_family(std::string_view model_type) {
  for (const Family* family : families()) {
    if (family->model_type == model_type) {
      return family;
    }
  }
  return nullptr;
}

// Multimodal models whose text part is an architecture of its own.
struct Wrapper {
  std::string_view model_type;
  std::string_view text_type;
  std::string_view prefix;
};
constexpr std::array<Wrapper, 2> kWrappers{{
    {"llama4", "llama4_text", "language_model."},
    {"aria", "aria_text", "language_model."},
}};

// Architectures that mix tokens by other means than softmax attention to all or near ones, or
// need what no option here describes.
constexpr std::array<std::pair<std::string_view, std::string_view>, 25> kUnsupported{{
    {"jamba", "Mamba layers"},
    {"nemotron_h", "Mamba layers"},
    {"granitemoehybrid", "Mamba layers"},
    {"bamba", "Mamba layers"},
    {"qwen3_next", "gated delta nets"},
    {"qwen3_5_moe", "gated delta nets"},
    {"qwen3_5_moe_text", "gated delta nets"},
    {"bailing_hybrid", "gated delta attention"},
    {"kimi_linear", "gated delta attention"},
    {"qwen4_exp_text", "gated delta nets and hyper-connections"},
    {"minimax", "lightning attention"},
    {"minimax_m3_vl_text", "block-sparse attention"},
    {"deepseek_v32", "sparse attention chosen by an indexer"},
    {"deepseek_v4", "compressed attention and hyper-connections"},
    {"glm_moe_dsa", "sparse attention chosen by an indexer"},
    {"dots3_note_text", "sparse attention chosen by an indexer"},
    {"axk2", "sparse attention chosen by an indexer"},
    {"hy_v4", "sparse attention and hyper-connections"},
    {"lfm2_moe", "short convolutions"},
    {"inkling_text", "short convolutions"},
    {"inkling2_text", "short convolutions"},
    {"zaya", "convolutional attention"},
    {"jetmoe", "experts within attention"},
    {"longcat_flash", "two attentions per layer and experts that do nothing"},
    {"gemma4_text", "experts beside a dense network, with norms of their own"},
}};

std::string unsupported_reason(const std::string& model_type) {
  for (const auto& [name, reason] : kUnsupported) {
    if (name == model_type) {
      return " is not supported: it has " + std::string(reason) + "; supported are ";
    }
  }
  return " is not supported; known are ";
}

// What matters in training only does not keep a model from being of an architecture: such
// options are keys of ours beside those of the architecture, which other readers ignore.
void write_training_options(const DecoderOptions& options, OrderedJson& config) {
  const DecoderOptions defaults;
  for (const auto& row : option_table<DecoderOptions>()) {
    if (row.traits.training_only && row.read(options) != row.read(defaults)) {
      write_option(row, options, config);
    }
  }
}

std::string config_text(
    const Family& family, const DecoderOptions& options, const ConfigExtras& extras) {
  OrderedJson config;
  config["model_type"] = family.model_type;
  family.write(options, extras, config);
  if (&family != &kMoeDecoder) {
    write_training_options(options, config);
  }
  return config.dump(2) + "\n";
}

// A family's answer to the question whether it can express some options.
struct Attempt {
  const Family* family = nullptr;
  std::string text;                   // of config.json
  FileForm form;                      // as it was read back
  std::vector<std::string> obstacles; // none if the model comes back as it was
  bool comparable = true;             // false if there is nothing to compare with
};

Attempt attempt(
    const Family& family, const DecoderOptions& options, const ConfigExtras& extras) {
  Attempt result;
  result.family = &family;
  try {
    result.text = config_text(family, options, extras);
    const ReadConfig back = read_config(result.text, "config.json");
    result.form = back.form;
    result.obstacles = option_differences(options, back.options);
  } catch (const Error& error) {
    result.obstacles.emplace_back(error.what());
    result.comparable = false;
  }
  return result;
}

// The architecture to write, with a notice when it is our own: what the nearest other one
// lacks.
std::pair<Attempt, std::vector<std::string>> choose_family(
    const DecoderOptions& options, const ConfigExtras& extras, const std::string& preferred) {
  std::optional<Attempt> nearest;
  if (const Family* family = find_family(preferred); family != nullptr) {
    auto tried = attempt(*family, options, extras);
    if (tried.obstacles.empty()) {
      return {std::move(tried), {}};
    }
    nearest = std::move(tried);
  }
  for (const Family* family : families()) {
    auto tried = attempt(*family, options, extras);
    if (tried.obstacles.empty()) {
      std::vector<std::string> notices;
      if (family == &kMoeDecoder && preferred != kMoeDecoder.model_type && nearest) {
        notices.push_back(
            "config.json: written as moe_decoder, which transformers does not read: " +
            std::string(nearest->family->model_type) + " has no " +
            join_words(nearest->obstacles));
      }
      return {std::move(tried), std::move(notices)};
    }
    const bool nearer = !nearest || (nearest->family->model_type != preferred &&
                                     tried.obstacles.size() < nearest->obstacles.size());
    if (tried.comparable && nearer) {
      nearest = std::move(tried);
    }
  }
  fail("config.json: no architecture expresses these options");
}

// Keys by which other architectures change the arithmetic. A family that has one has read it by
// now; in a configuration of another family they ask for more than would be computed.
void refuse_foreign_arithmetic(ConfigReader& reader) {
  for (const char* key :
       {"clip_qkv",
        "attn_logit_softcapping",
        "final_logit_softcapping",
        "logits_scaling",
        "logit_scale",
        "attention_multiplier",
        "embedding_multiplier",
        "residual_multiplier",
        "n_shared_experts",
        "num_shared_experts",
        "shared_expert_intermediate_size",
        "routed_scaling_factor",
        "n_group",
        "topk_group",
        "scoring_func",
        "rotary_dim",
        "sliding_window",
        "layer_types",
        "mlp_layer_types",
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

void note_quantization(ReadConfig& config, const Json& json, const std::string& file) {
  if (json.contains("quantization_config") && !json["quantization_config"].is_null()) {
    config.notices.push_back(
        file + ": quantized weights are expanded while reading, and not quantized when saved");
  }
}

ReadConfig read_object(const Json& json, const std::string& file) {
  check(json.is_object(), file, ": expected a JSON object, found ", json.type_name());
  ConfigReader reader(json, file);
  const std::string model_type = reader.text("model_type");
  for (const Wrapper& wrapper : kWrappers) {
    if (wrapper.model_type == model_type) {
      const Json& text = reader.object("text_config");
      check(
          !text.empty(), file, ": text_config is missing; expected the language model's keys");
      Json inner = text;
      inner["model_type"] = wrapper.text_type;
      auto config = read_object(inner, file + ": text_config");
      config.form.prefix = wrapper.prefix;
      config.notices.push_back(file + ": only the language model is read, nothing for images");
      return config;
    }
  }
  const Family* family = find_family(model_type);
  check(
      family != nullptr,
      file,
      ": model_type ",
      quote(model_type),
      unsupported_reason(model_type),
      join_words(known_families()));
  ReadConfig config;
  config.family = model_type;
  family->read(reader, config);
  if (family != &kMoeDecoder) {
    for (const auto& row : option_table<DecoderOptions>()) {
      if (row.traits.training_only) {
        read_option(reader, row, config.options);
      }
    }
  }
  refuse_foreign_arithmetic(reader);
  try {
    validate(config.options);
  } catch (const Error& error) {
    fail(file, ": ", error.what());
  }
  config.notices.insert(config.notices.end(), reader.notices().begin(), reader.notices().end());
  note_quantization(config, json, file);
  if (const auto ignored = reader.unread(); !ignored.empty()) {
    config.notices.push_back(file + ": ignored keys that " + model_type + " does not have: ");
    for (const std::string& key : ignored) {
      config.notices.back() += (key == ignored.front() ? "" : ", ") + quote(key);
    }
  }
  return config;
}

} // namespace

std::vector<std::string> known_families() {
  std::vector<std::string> names;
  for (const Family* family : families()) {
    names.emplace_back(family->model_type);
  }
  return names;
}

WrittenConfig write_config(
    const DecoderOptions& options, const ConfigExtras& extras, const std::string& family) {
  validate(options);
  auto [chosen, notices] = choose_family(options, extras, family);
  return {
      std::string(chosen.family->model_type),
      chosen.form,
      chosen.text,
      generation_config(extras),
      notices};
}

ReadConfig read_config(const std::string& text, const std::string& file) {
  return read_object(parse_json(text, file), file);
}

std::vector<TensorLayout> tensor_layouts(
    const std::string& family, const DecoderOptions& options, const FileForm& form) {
  const Family* found = find_family(family);
  check(found != nullptr, "no architecture is named ", quote(family));
  std::vector<TensorLayout> layouts;
  for (NamedShape& ours : decoder_tensors(options)) {
    std::vector<TensorParts> stored{{{ours.name, ours.shape}}};
    if (found->names != nullptr) {
      stored = stored_tensor(*found->names, options, form, ours);
    }
    layouts.push_back({std::move(ours), std::move(stored)});
  }
  return layouts;
}

} // namespace moe
