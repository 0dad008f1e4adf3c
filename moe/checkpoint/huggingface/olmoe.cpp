#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_olmo_experts(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_common(options, extras, config);
  config.erase("head_dim"); // it is always the width divided by the number of heads
  config["intermediate_size"] = options.expert_dim;
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["norm_topk_prob"] = options.router.normalize_weights;
  write_balance_weight(options, extras, config);
}

void read_olmo_experts(
    ConfigReader& reader, ReadConfig& config, const CommonDefaults& defaults) {
  read_common(reader, config, defaults);
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.attention.qk_norm_kind = QKNorm::full;
  options.num_experts = read_num_experts(reader, {"num_experts", "num_local_experts"});
  read_experts_per_token(reader, config, "num_experts_per_tok", 0.01);
  options.expert_dim = reader.size("intermediate_size");
  options.router.normalize_weights = reader.flag("norm_topk_prob", false);
}

void write_olmoe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"OlmoeForCausalLM"};
  write_olmo_experts(options, extras, config);
  config["clip_qkv"] = options.attention.clip_qkv > 0.0
                           ? OrderedJson(options.attention.clip_qkv)
                           : OrderedJson(nullptr);
}

void read_olmoe(ConfigReader& reader, ReadConfig& config) {
  read_olmo_experts(reader, config, {.norm_epsilon = 1e-5});
  config.options.attention.clip_qkv =
      reader.has("clip_qkv") ? reader.positive("clip_qkv", 0.0) : 0.0;
}

void write_flex_olmo(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"FlexOlmoForCausalLM"};
  write_olmo_experts(options, extras, config);
}

void read_flex_olmo(ConfigReader& reader, ReadConfig& config) {
  read_olmo_experts(reader, config, {.norm_epsilon = 1e-6, .rope_theta = 5e5});
  config.options.norm_placement = NormPlacement::after;
}

const TensorNames kOlmoeTensors{.rules = {&kQwenExpertNames, &kLlamaNames}};
const TensorNames kFlexOlmoTensors{
    .rules = {&kQwenExpertNames, &kOutputNormNames, &kLlamaNames}};

} // namespace

const Family kOlmoe{"olmoe", write_olmoe, read_olmoe, &kOlmoeTensors};
const Family kFlexOlmo{"flex_olmo", write_flex_olmo, read_flex_olmo, &kFlexOlmoTensors};

} // namespace moe
