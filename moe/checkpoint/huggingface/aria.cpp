#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_aria(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"AriaTextForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.expert_dim;
  config["moe_num_experts"] = options.num_experts;
  config["moe_topk"] = options.experts_per_token;
  config["moe_num_shared_experts"] = count_shared_experts(options);
  config["mlp_bias"] = options.feed_forward_bias;
}

void read_aria(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config);
  DecoderOptions& options = config.options;
  options.num_experts = reader.size("moe_num_experts");
  options.experts_per_token = reader.size("moe_topk");
  options.expert_dim = reader.size("intermediate_size");
  options.shared_expert_dim =
      options.expert_dim * reader.integer("moe_num_shared_experts", 0, 2);
  options.feed_forward_bias = reader.flag("mlp_bias", false);
}

const TensorRules kAriaNames{
    {"moe.router", "mlp.router"},
    {"moe.gate_up_proj", "mlp.experts.fc1.weight", TensorForm::transposed},
    {"moe.down_proj", "mlp.experts.fc2.weight", TensorForm::transposed},
};
const TensorNames kAriaTensors{.rules = {&kAriaNames, &kSharedExpertsNames, &kLlamaNames}};

} // namespace

const Family kAriaText{"aria_text", write_aria, read_aria, &kAriaTensors};

} // namespace moe
