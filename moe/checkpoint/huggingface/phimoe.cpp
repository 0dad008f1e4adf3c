#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_phimoe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"PhimoeForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.expert_dim;
  config["num_local_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["router_jitter_noise"] = options.router.sparsemixer_jitter;
  config["input_jitter_noise"] = 0.0;
  config["lm_head_bias"] = options.head_bias;
  config["sliding_window"] = number_or_null(options.attention.sliding_window);
  if (options.rotary.scaling != RotaryScaling::none) {
    config["original_max_position_embeddings"] = options.rotary.original_length;
  }
  write_balance_weight(options, extras, config);
}

void read_phimoe(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 1e6});
  DecoderOptions& options = config.options;
  options.norm.kind = NormKind::layer_bias;
  options.head_bias = reader.flag("lm_head_bias", false);
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = reader.size("intermediate_size");
  options.attention.sliding_window = reader.size("sliding_window", 0);
  options.router.weighting = RouterWeighting::sparsemixer;
  options.router.sparsemixer_jitter = reader.number("router_jitter_noise", 0.01);
  if (options.rotary.scaling != RotaryScaling::none && options.rotary.short_multiplier == 0.0) {
    reader.fail_value("rope_scaling", "longrope with short_mscale and long_mscale");
  }
  reader.ignore({"input_jitter_noise"}); // noise in training only
}

const TensorRules kPhimoeNames{
    {"moe.router", "block_sparse_moe.gate"},
    {"moe.router", "mlp.router"},
};
const TensorNames kPhimoeTensors{.rules = {&kPhimoeNames, &kMixtralExpertNames, &kLlamaNames}};

} // namespace

const Family kPhimoe{"phimoe", write_phimoe, read_phimoe, &kPhimoeTensors};

} // namespace moe
