#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_llama(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"LlamaForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.dense_dim;
  config["mlp_bias"] = options.feed_forward_bias || options.expert_bias;
}

void read_dense(ConfigReader& reader, ReadConfig& config, const CommonDefaults& defaults) {
  read_common(reader, config, defaults);
  config.options.num_experts = 0;
  config.options.dense_dim = reader.size("intermediate_size");
}

void read_llama(ConfigReader& reader, ReadConfig& config) {
  read_dense(reader, config, {});
  config.options.feed_forward_bias = reader.flag("mlp_bias", false);
}

void write_mistral(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"MistralForCausalLM"};
  write_common(options, extras, config);
  config.erase("attention_bias");
  config["intermediate_size"] = options.dense_dim;
  config["sliding_window"] = number_or_null(options.attention.sliding_window);
}

void read_mistral(ConfigReader& reader, ReadConfig& config) {
  reader.require_neutral("attention_bias", false);
  read_dense(reader, config, {});
  // Missing is 4096 tokens, null no window.
  const bool none = reader.is_null("sliding_window");
  config.options.attention.sliding_window = none ? 0 : reader.size("sliding_window", 4096);
}

void write_olmo2(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Olmo2ForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.dense_dim;
}

void read_olmo2(ConfigReader& reader, ReadConfig& config) {
  read_dense(reader, config, {.norm_epsilon = 1e-5});
  config.options.norm_placement = NormPlacement::after;
  config.options.attention.qk_norm = true;
  config.options.attention.qk_norm_kind = QKNorm::full;
}

const TensorNames kLlamaTensors{.rules = {&kLlamaNames}};
const TensorNames kOlmo2Tensors{.rules = {&kOutputNormNames, &kLlamaNames}};

} // namespace

const TensorRules kOutputNormNames{
    {"attention_output_norm", "post_attention_layernorm"},
    {"feed_forward_output_norm", "post_feedforward_layernorm"},
};

const Family kLlama{"llama", write_llama, read_llama, &kLlamaTensors};
const Family kMistral{"mistral", write_mistral, read_mistral, &kLlamaTensors};
const Family kOlmo2{"olmo2", write_olmo2, read_olmo2, &kOlmo2Tensors};

} // namespace moe
