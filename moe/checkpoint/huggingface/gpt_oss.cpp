#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_gpt_oss(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"GptOssForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.expert_dim;
  config["num_local_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["experts_per_token"] = options.experts_per_token;
  config["swiglu_limit"] = options.expert.limit;
  config["swiglu_alpha"] = options.expert.sigmoid_scale;
  config["sliding_window"] =
      options.attention.sliding_window > 0 ? options.attention.sliding_window : 128;
  config["layer_types"] = layer_types(options);
  write_balance_weight(options, extras, config);
}

void read_gpt_oss(ConfigReader& reader, ReadConfig& config) {
  if (!reader.has("rope_parameters") && !reader.has("rope_scaling")) {
    reader.fail_value("rope_scaling", "an object");
  }
  read_common(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 150000.0, .head_dim = 64});
  DecoderOptions& options = config.options;
  options.attention.bias = reader.flag("attention_bias", true);
  options.attention.sinks = true;
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  reader.require_neutral("experts_per_token", options.experts_per_token);
  options.expert_dim = reader.size("intermediate_size");
  options.expert_bias = options.router.bias = true;
  options.expert.limit = reader.positive("swiglu_limit", 7.0);
  options.expert.sigmoid_scale = reader.positive("swiglu_alpha", 1.702);
  options.expert.offset = 1.0;
  options.attention.sliding_window = reader.size("sliding_window", 128);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    full.push_back(layer % 2 != 0);
  }
  read_layer_types(reader, options, full);
  reader.ignore({"initial_context_length"});
}

const TensorRules kGptOssNames{
    {"moe.router", "mlp.router"},
    {"moe.gate_up_proj", "mlp.experts.gate_up_proj", TensorForm::interleaved_columns},
    {"moe.gate_up_proj", "mlp.experts.gate_up_proj", TensorForm::mxfp4_interleaved},
    {"moe.gate_up_bias", "mlp.experts.gate_up_proj_bias", TensorForm::interleaved},
    {"moe.down_proj", "mlp.experts.down_proj", TensorForm::transposed},
    {"moe.down_proj", "mlp.experts.down_proj", TensorForm::mxfp4},
    {"moe.down_bias", "mlp.experts.down_proj_bias"},
};
const TensorNames kGptOssTensors{.rules = {&kGptOssNames, &kLlamaNames}};

} // namespace

const Family kGptOss{"gpt_oss", write_gpt_oss, read_gpt_oss, &kGptOssTensors};

} // namespace moe
