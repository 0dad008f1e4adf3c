#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_hunyuan(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"HunYuanMoEV1ForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.expert_dim;
  config["num_experts"] = options.num_experts;
  config["moe_topk"] = options.experts_per_token;
}

// A number, or a list of the same number for every layer.
int64_t read_uniform(ConfigReader& reader, const std::string& key) {
  if (!reader.is_list(key)) {
    return reader.size(key);
  }
  const auto values = reader.integers(key);
  for (const int64_t value : values) {
    if (value != values[0] || value < 1) {
      reader.fail_value(key, "the same number above 0 for every layer");
    }
  }
  return values.empty() ? reader.size(key) : values[0];
}

void read_hunyuan(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5});
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.attention.qk_norm_after_rope = true;
  options.num_experts = read_uniform(reader, "num_experts");
  options.experts_per_token = read_uniform(reader, "moe_topk");
  options.expert_dim = reader.size("intermediate_size");
  options.shared_expert_dim = options.expert_dim;
  reader.require_neutral("use_qk_norm", true);
  reader.require_neutral("use_cla", false);
  reader.ignore({"eod_token_id", "sep_token_id", "num_shared_expert", "moe_intermediate_size"});
}

const TensorRules kHunyuanNames{
    {"moe.router", "mlp.gate.wg"},
    {"moe.shared_expert.gate_up_proj", "mlp.shared_mlp.{gate,up}_proj.weight"},
    {"moe.shared_expert.down_proj", "mlp.shared_mlp.down_proj.weight"},
    {"attention.q_norm", "self_attn.query_layernorm"},
    {"attention.k_norm", "self_attn.key_layernorm"},
};
const TensorNames kHunyuanTensors{.rules = {&kHunyuanNames, &kQwenExpertNames, &kLlamaNames}};

void write_hy_v3(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"HYV3ForCausalLM"};
  write_common(options, extras, config);
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["moe_intermediate_size"] = options.expert_dim;
  config["intermediate_size"] = options.dense_dim;
  config["num_shared_experts"] = count_shared_experts(options);
  config["router_scaling_factor"] = options.router.routed_scaling_factor;
  config["mlp_layer_types"] = mlp_layer_types(options);
  config["enable_moe_fp32_combine"] = true;
  config["mlp_bias"] = options.feed_forward_bias;
}

void read_hy_v3(ConfigReader& reader, ReadConfig& config) {
  read_common(
      reader, config, {.norm_epsilon = 1e-5, .rope_theta = 11158840.0, .head_dim = 128});
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  options.num_experts = read_num_experts(reader, {"num_experts", "num_local_experts"});
  options.experts_per_token = reader.size("num_experts_per_tok");
  options.expert_dim = reader.size("moe_intermediate_size");
  options.dense_dim = reader.size("intermediate_size");
  options.shared_expert_dim = options.expert_dim * reader.integer("num_shared_experts", 0, 1);
  options.router.routed_scaling_factor = reader.number("router_scaling_factor", 2.826);
  options.feed_forward_bias = reader.flag("mlp_bias", false);
  read_mlp_layer_types(reader, options, /*default_dense=*/1);
  reader.ignore({"enable_moe_fp32_combine"}); // how sums are rounded
}

const TensorRules kHyV3Names{
    {"moe.router.selection_bias", "mlp.expert_bias"},
    {"moe.router", "mlp.router.gate"},
    {"moe.shared_expert.gate_up_proj", "mlp.shared_mlp.{gate,up}_proj.weight"},
    {"moe.shared_expert.gate_up_bias", "mlp.shared_mlp.{gate,up}_proj.bias"},
    {"moe.shared_expert.down_proj", "mlp.shared_mlp.down_proj.weight"},
    {"moe.shared_expert.down_bias", "mlp.shared_mlp.down_proj.bias"},
};
const TensorNames kHyV3Tensors{.rules = {&kHyV3Names, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kHunyuanV1Moe{"hunyuan_v1_moe", write_hunyuan, read_hunyuan, &kHunyuanTensors};
const Family kHyV3{"hy_v3", write_hy_v3, read_hy_v3, &kHyV3Tensors};

} // namespace moe
