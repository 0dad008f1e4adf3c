#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_sigmoid_experts(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_common(options, extras, config);
  write_deepseek_experts(options, config);
  write_group_router(options, config);
}

// Biases of queries, keys and values, but none of the output.
void read_qkv_bias(DecoderOptions& options) {
  options.attention.qkv_bias = options.attention.bias;
  options.attention.bias = false;
}

void write_qkv_bias(const DecoderOptions& options, OrderedJson& config) {
  check(!options.attention.bias, "attention_bias: there is none of the output");
  config["attention_bias"] = options.attention.qkv_bias;
}

void write_glm4_moe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Glm4MoeForCausalLM"};
  write_sigmoid_experts(options, extras, config);
  write_qkv_bias(options, config);
  config["use_qk_norm"] = options.attention.qk_norm;
  config["first_k_dense_replace"] = count_first_dense(options);
  const double turning = static_cast<double>(resolved_rotary_dim(options, 0));
  const double factor = turning / static_cast<double>(resolved_head_dim(options));
  config["partial_rotary_factor"] = factor;
  config["rope_parameters"]["partial_rotary_factor"] = factor;
}

void read_glm4_moe(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5, .partial_rotary_factor = 0.5});
  DecoderOptions& options = config.options;
  read_qkv_bias(options);
  options.attention.qk_norm = reader.flag("use_qk_norm", false);
  read_deepseek_experts(reader, config);
  read_first_dense(reader, options, "first_k_dense_replace", 1);
  read_sigmoid_router(reader, options, /*default_scale=*/1.0, /*normalize=*/true);
}

void write_solar_open(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"SolarOpenForCausalLM"};
  write_sigmoid_experts(options, extras, config);
  write_qkv_bias(options, config);
  config.erase("intermediate_size");
}

void read_solar_open(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 1e6, .head_dim = 128});
  read_qkv_bias(config.options);
  read_deepseek_experts(reader, config);
  reader.require_neutral("first_k_dense_replace", 0);
  reader.require_neutral("use_qk_norm", false);
  read_sigmoid_router(reader, config.options, /*default_scale=*/1.0, /*normalize=*/true);
}

void write_dots1(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Dots1ForCausalLM"};
  write_sigmoid_experts(options, extras, config);
  config["first_k_dense_replace"] = count_first_dense(options);
  config["sliding_window"] = number_or_null(options.attention.sliding_window);
  config["layer_types"] = layer_types(options);
  config["max_window_layers"] = options.num_layers;
}

void read_dots1(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config);
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  read_deepseek_experts(reader, config, /*default_shared=*/0);
  read_first_dense(reader, options, "first_k_dense_replace", 0);
  read_sigmoid_router(reader, options, /*default_scale=*/1.0, /*normalize=*/false);
  const bool none = reader.is_null("sliding_window");
  options.attention.sliding_window = none ? 0 : reader.size("sliding_window", 4096);
  const int64_t first = reader.integer("max_window_layers", 0, 62);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    full.push_back(none || layer < first);
  }
  read_layer_types(reader, options, full);
}

const TensorNames kGlmTensors{
    .rules = {&kSelectionBiasNames, &kSharedExpertsNames, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kGlm4Moe{"glm4_moe", write_glm4_moe, read_glm4_moe, &kGlmTensors};
const Family kSolarOpen{"solar_open", write_solar_open, read_solar_open, &kGlmTensors};
const Family kDots1{"dots1", write_dots1, read_dots1, &kGlmTensors};

} // namespace moe
