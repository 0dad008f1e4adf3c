#include <array>
#include <sstream>
#include <utility>

#include "moe/checkpoint/huggingface/family_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

constexpr int64_t kMostLayers = 10'000;

constexpr std::array<std::pair<std::string_view, std::string_view>, 7> kActivations{{
    {"silu", "silu"}, // ours, theirs; the first row of ours is written
    {"silu", "swish"},
    {"gelu", "gelu"},
    {"gelu_tanh", "gelu_pytorch_tanh"},
    {"gelu_tanh", "gelu_new"},
    {"relu", "relu"},
    {"relu_squared", "relu2"},
}};

std::string described(std::string_view option, double value) {
  std::ostringstream text;
  text << option << " (" << value << ")";
  return text.str();
}

void check_dtype(ConfigReader& reader, const std::string& key) {
  static const std::set<std::string> known{"float32", "float16", "bfloat16", "float64", "auto"};
  if (reader.has(key) && !known.contains(reader.text(key))) {
    reader.fail_value(key, "float32, bfloat16, float16 or float64");
  }
}

// Keys of the base class of all configurations, and of generation, that do not change the
// arithmetic of the model.
void ignore_harmless(ConfigReader& reader) {
  reader.ignore(
      {"architectures",
       "model_type",
       "transformers_version",
       "_name_or_path",
       "auto_map",
       "use_cache",
       "attention_dropout",
       "pad_token_id",
       "output_router_logits",
       "output_attentions",
       "output_hidden_states",
       "return_dict",
       "_attn_implementation_autoset"});
}

} // namespace

std::string_view hidden_act(std::string_view activation) {
  for (const auto& [ours, theirs] : kActivations) {
    if (ours == activation) {
      return theirs;
    }
  }
  fail("activation: '", activation, "' has no name in config.json");
}

std::string activation_of_hidden_act(ConfigReader& reader) {
  const std::string name = reader.text("hidden_act");
  for (const auto& [ours, theirs] : kActivations) {
    if (theirs == name) {
      return std::string(ours);
    }
  }
  reader.fail_value("hidden_act", "silu, gelu, gelu_pytorch_tanh, relu or relu2");
}

double read_rope_theta(ConfigReader& reader, double fallback) {
  double theta = reader.positive("rope_theta", fallback);
  // transformers prefers the older of the two keys.
  const std::string key = reader.has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  const Json& parameters = reader.object(key);
  reader.ignore({"rope_scaling", "rope_parameters"});
  ConfigReader rope(parameters, reader.file() + ": " + key);
  if (!parameters.empty()) {
    const std::string kind = rope.has("rope_type") ? "rope_type" : "type";
    if (rope.text(kind) != "default") {
      rope.fail_value(kind, "\"default\": scaled positions are not supported");
    }
    rope.ignore({"type"});
    rope.require_neutral("partial_rotary_factor", 1.0);
    const bool given_twice = reader.has("rope_theta") && rope.has("rope_theta");
    const double inner = rope.positive("rope_theta", theta);
    if (given_twice && inner != theta) {
      reader.fail_value("rope_theta", "the same value as in " + key);
    }
    theta = inner;
    for (const std::string& unknown : rope.unread()) {
      rope.fail_value(unknown, "no such key: it is not supported");
    }
  }
  return theta;
}

std::vector<std::string> common_obstacles(const DecoderOptions& options) {
  std::vector<std::string> obstacles;
  if (!options.gated) {
    obstacles.emplace_back("gated (false)");
  }
  if (options.expert_bias) {
    obstacles.emplace_back("expert_bias (true)");
  }
  if (options.num_experts > 0 && options.shared_expert_dim > 0) {
    obstacles.push_back(described("shared_expert_dim", options.shared_expert_dim));
  }
  if (options.num_experts > 0 && options.routed_scaling_factor != 1.0) {
    obstacles.push_back(described("routed_scaling_factor", options.routed_scaling_factor));
  }
  return obstacles;
}

void write_common(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["vocab_size"] = options.vocab_size;
  config["hidden_size"] = options.model_dim;
  config["num_hidden_layers"] = options.num_layers;
  config["num_attention_heads"] = options.num_heads;
  config["num_key_value_heads"] = resolved_num_kv_heads(options);
  config["head_dim"] = resolved_head_dim(options);
  config["hidden_act"] = hidden_act(options.activation);
  config["max_position_embeddings"] = options.context_length;
  config["initializer_range"] = options.initializer_range;
  config["rms_norm_eps"] = options.norm_epsilon;
  // transformers 4 reads the first, 5 the second.
  config["rope_theta"] = options.rope_theta;
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", options.rope_theta}};
  config["tie_word_embeddings"] = options.tie_embeddings;
  config["attention_bias"] = options.attention_bias;
  config["attention_dropout"] = 0.0;
  config["use_cache"] = true;
  config["bos_token_id"] =
      extras.bos_token_id ? OrderedJson(*extras.bos_token_id) : OrderedJson(nullptr);
  config["eos_token_id"] = extras.eos_token_ids.size() == 1
                               ? OrderedJson(extras.eos_token_ids[0])
                           : extras.eos_token_ids.empty() ? OrderedJson(nullptr)
                                                          : OrderedJson(extras.eos_token_ids);
  config["torch_dtype"] = extras.dtype;
}

void read_common(ConfigReader& reader, DecoderOptions& options, ConfigExtras& extras) {
  ignore_harmless(reader);
  options.vocab_size = reader.size("vocab_size");
  options.model_dim = reader.size("hidden_size");
  options.num_layers = reader.size("num_hidden_layers");
  if (options.num_layers > kMostLayers) {
    reader.fail_value("num_hidden_layers", "at most " + std::to_string(kMostLayers));
  }
  options.num_heads = reader.size("num_attention_heads");
  options.num_kv_heads = reader.size("num_key_value_heads", options.num_heads);
  options.activation = activation_of_hidden_act(reader);
  options.context_length = reader.integer("max_position_embeddings", 1, 32768);
  options.initializer_range = reader.number("initializer_range", 0.02);
  options.norm_epsilon = reader.positive("rms_norm_eps", 1e-6);
  options.rope_theta = read_rope_theta(reader, 10000.0);
  options.tie_embeddings = reader.flag("tie_word_embeddings", false);
  options.attention_bias = reader.flag("attention_bias", false);
  check_dtype(reader, "dtype");
  check_dtype(reader, "torch_dtype");
  extras.dtype = reader.text(reader.has("dtype") ? "dtype" : "torch_dtype", "float32");
  const auto begin = reader.token_ids("bos_token_id", options.vocab_size);
  if (!begin.empty()) {
    extras.bos_token_id = begin[0];
  }
  extras.eos_token_ids = reader.token_ids("eos_token_id", options.vocab_size);
}

} // namespace moe
