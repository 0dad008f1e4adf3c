#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_mixtral(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"MixtralForCausalLM"};
  write_common(options, extras, config);
  config.erase("attention_bias");
  config["intermediate_size"] = options.expert_dim;
  config["num_local_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  write_balance_weight(options, extras, config);
  config["router_jitter_noise"] = 0.0;
  config["sliding_window"] = number_or_null(options.attention.sliding_window);
}

void read_mixtral(ConfigReader& reader, ReadConfig& config) {
  reader.require_neutral("attention_bias", false);
  read_common(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 1e6});
  DecoderOptions& options = config.options;
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = reader.size("intermediate_size");
  options.attention.sliding_window = reader.size("sliding_window", 0);
  reader.ignore({"router_jitter_noise"}); // noise in training only
}

const TensorNames kMixtralTensors{.rules = {&kMixtralExpertNames, &kLlamaNames}};

} // namespace

const Family kMixtral{"mixtral", write_mixtral, read_mixtral, &kMixtralTensors};

} // namespace moe
