#include <array>
#include <utility>

#include "moe/checkpoint/huggingface/family_internal.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace {

constexpr int64_t kMostLayers = 10'000;
constexpr int64_t kMostExtraLayers = 100;

constexpr std::array<std::pair<Activation, std::string_view>, 7> kActivations{{
    {Activation::silu, "silu"}, // ours, theirs; the first row of ours is written
    {Activation::silu, "swish"},
    {Activation::gelu, "gelu"},
    {Activation::gelu_tanh, "gelu_pytorch_tanh"},
    {Activation::gelu_tanh, "gelu_new"},
    {Activation::relu, "relu"},
    {Activation::relu_squared, "relu2"},
}};

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
       "pretraining_tp",
       "_attn_implementation_autoset"});
}

// Weights in FP8 with a scale for each block; 4-bit blocks are recognised by their names.
void read_quantization(ConfigReader& reader, FileForm& form) {
  const Json& json = reader.object("quantization_config");
  if (json.empty()) {
    return;
  }
  ConfigReader quantization(json, reader.file() + ": quantization_config");
  const std::string method = quantization.text("quant_method");
  if (method == "mxfp4") {
    return;
  }
  if (method != "fp8") {
    quantization.fail_value("quant_method", "fp8 or mxfp4; others are not supported");
  }
  quantization.require_neutral("fmt", "e4m3");
  const auto block = quantization.integers("weight_block_size");
  if (block.size() != 2 || block[0] < 1 || block[1] < 1) {
    quantization.fail_value("weight_block_size", "two numbers above 0");
  }
  form.fp8_block = {block[0], block[1]};
}

} // namespace

std::string_view hidden_act(Activation activation) {
  for (const auto& [ours, theirs] : kActivations) {
    if (ours == activation) {
      return theirs;
    }
  }
  fail("activation: '", enum_name(activation), "' has no name in config.json");
}

Activation activation_from_act(ConfigReader& reader, const std::string& key) {
  const std::string name = reader.text(key);
  for (const auto& [ours, theirs] : kActivations) {
    if (theirs == name) {
      return ours;
    }
  }
  reader.fail_value(key, "silu, gelu, gelu_pytorch_tanh, relu or relu2");
}

void write_model_ends(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["vocab_size"] = options.vocab_size;
  config["initializer_range"] = options.initializer_range;
  config["tie_word_embeddings"] = options.tie_embeddings;
  config["use_cache"] = true;
  config["bos_token_id"] =
      extras.bos_token_id ? OrderedJson(*extras.bos_token_id) : OrderedJson(nullptr);
  config["eos_token_id"] = extras.eos_token_ids.size() == 1
                               ? OrderedJson(extras.eos_token_ids[0])
                           : extras.eos_token_ids.empty() ? OrderedJson(nullptr)
                                                          : OrderedJson(extras.eos_token_ids);
  // Some classes have one by default, and give its embedding no gradient.
  config["pad_token_id"] = nullptr;
  config["torch_dtype"] = extras.dtype;
}

void write_common(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_model_ends(options, extras, config);
  config["hidden_size"] = options.model_dim;
  config["num_hidden_layers"] = options.num_layers;
  config["num_attention_heads"] = options.attention.num_heads;
  config["num_key_value_heads"] = resolved_num_kv_heads(options);
  config["head_dim"] = resolved_head_dim(options);
  config["hidden_act"] = hidden_act(options.expert.activation);
  config["max_position_embeddings"] = options.context_length;
  config["rms_norm_eps"] = options.norm.epsilon;
  write_rope(options, config);
  config["attention_bias"] = options.attention.bias;
  config["attention_dropout"] = 0.0;
}

void read_model_ends(ConfigReader& reader, ReadConfig& config, bool tie_embeddings) {
  ignore_harmless(reader);
  DecoderOptions& options = config.options;
  ConfigExtras& extras = config.extras;
  options.vocab_size = reader.size("vocab_size");
  options.initializer_range = reader.number("initializer_range", 0.02);
  options.tie_embeddings = reader.flag("tie_word_embeddings", tie_embeddings);
  options.attention.qk_norm = false;
  check_dtype(reader, "dtype");
  check_dtype(reader, "torch_dtype");
  extras.dtype = reader.text(reader.has("dtype") ? "dtype" : "torch_dtype", "float32");
  const auto begin = reader.token_ids("bos_token_id", options.vocab_size);
  if (!begin.empty()) {
    extras.bos_token_id = begin[0];
  }
  extras.eos_token_ids = reader.token_ids("eos_token_id", options.vocab_size);
  config.form.extra_layers = reader.has("num_nextn_predict_layers")
                                 ? reader.integer("num_nextn_predict_layers", 0, 0)
                                 : 0;
  if (config.form.extra_layers > kMostExtraLayers) {
    reader.fail_value("num_nextn_predict_layers", "at most 100");
  }
  read_quantization(reader, config.form);
}

int64_t read_num_layers(ConfigReader& reader, const std::string& key) {
  const int64_t layers = reader.size(key);
  if (layers > kMostLayers) {
    reader.fail_value(key, "at most " + std::to_string(kMostLayers));
  }
  return layers;
}

void read_common(ConfigReader& reader, ReadConfig& config, const CommonDefaults& defaults) {
  read_model_ends(reader, config, defaults.tie_embeddings);
  DecoderOptions& options = config.options;
  options.model_dim = reader.size("hidden_size");
  options.num_layers = read_num_layers(reader, "num_hidden_layers");
  options.attention.num_heads = reader.size("num_attention_heads");
  options.attention.num_kv_heads =
      reader.size("num_key_value_heads", options.attention.num_heads);
  options.attention.head_dim = reader.size("head_dim", defaults.head_dim);
  options.expert.activation = activation_from_act(reader);
  options.context_length = reader.integer("max_position_embeddings", 1, 32768);
  options.norm.epsilon =
      reader.positive(std::string(defaults.norm_epsilon_key), defaults.norm_epsilon);
  options.attention.bias = reader.flag("attention_bias", false);
  if (options.attention.head_dim == 0 && !has_latent_attention(options) &&
      options.model_dim % options.attention.num_heads != 0) {
    reader.fail_value("num_attention_heads", "a divisor of hidden_size, or a head_dim");
  }
  if (!defaults.rope_by_layer_type) {
    read_rope(reader, options, defaults);
  }
}

OrderedJson number_or_null(int64_t value) {
  return value > 0 ? OrderedJson(value) : OrderedJson(nullptr);
}

int64_t count_shared_experts(const DecoderOptions& options) {
  check(
      options.expert_dim > 0 && options.shared_expert_dim % options.expert_dim == 0,
      "shared_expert_dim: ",
      options.shared_expert_dim,
      " is no multiple of expert_dim");
  return options.shared_expert_dim / options.expert_dim;
}

int64_t read_num_experts(ConfigReader& reader, std::initializer_list<const char*> keys) {
  const char* first = nullptr;
  int64_t experts = 0;
  for (const char* key : keys) {
    if (!reader.has(key)) {
      continue;
    }
    const int64_t value = reader.size(key);
    if (first != nullptr && value != experts) {
      reader.fail_value(key, std::string("the same as ") + first);
    }
    experts = value;
    first = first == nullptr ? key : first;
  }
  return first == nullptr ? reader.size(*keys.begin()) : experts;
}

void read_experts_per_token(
    ConfigReader& reader, ReadConfig& config, const char* key, double default_weight) {
  config.options.experts_per_token = reader.size(key);
  config.extras.load_balancing_weight = reader.number("router_aux_loss_coef", default_weight) *
                                        static_cast<double>(config.options.experts_per_token);
}

void write_balance_weight(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["output_router_logits"] = false;
  config["router_aux_loss_coef"] =
      extras.load_balancing_weight / static_cast<double>(options.experts_per_token);
}

} // namespace moe
