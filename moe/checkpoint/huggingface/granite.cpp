#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_granite(
    const DecoderOptions& options,
    const ConfigExtras& extras,
    const char* architecture,
    OrderedJson& config) {
  config["architectures"] = {architecture};
  write_common(options, extras, config);
  config["intermediate_size"] = options.expert_dim;
  config["num_local_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["embedding_multiplier"] = options.embedding_multiplier;
  config["residual_multiplier"] = options.residual_multiplier;
  config["logits_scaling"] = 1.0 / options.logits_multiplier;
  config["attention_multiplier"] = canonical(options).attention.multiplier;
  write_balance_weight(options, extras, config);
}

void read_granite(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config);
  DecoderOptions& options = config.options;
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = reader.size("intermediate_size");
  options.embedding_multiplier = reader.number("embedding_multiplier", 1.0);
  options.residual_multiplier = reader.number("residual_multiplier", 1.0);
  options.logits_multiplier = 1.0 / reader.positive("logits_scaling", 1.0);
  options.attention.multiplier = reader.positive("attention_multiplier", 1.0);
}

void write_granitemoe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_granite(options, extras, "GraniteMoeForCausalLM", config);
}

void write_shared(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_granite(options, extras, "GraniteMoeSharedForCausalLM", config);
  config["shared_intermediate_size"] = options.shared_expert_dim;
}

void read_shared(ConfigReader& reader, ReadConfig& config) {
  read_granite(reader, config);
  config.options.shared_expert_dim = reader.integer("shared_intermediate_size", 0, 0);
}

void write_swa(const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_granite(options, extras, "GraniteMoeSWAForCausalLM", config);
  config["shared_intermediate_size"] = options.shared_expert_dim;
  config["sliding_window"] =
      options.attention.sliding_window > 0 ? options.attention.sliding_window : 128;
  config["layer_types"] = layer_types(options);
  OrderedJson theta = OrderedJson::array();
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const bool turns = !names_layer(options.no_rope_layers, layer);
    const double own = options.layer_rope_theta.empty()
                           ? options.rotary.theta
                           : options.layer_rope_theta[static_cast<size_t>(layer)];
    theta.push_back(turns ? own : 0.0);
  }
  config["layer_rope_theta"] = theta;
}

void read_swa(ConfigReader& reader, ReadConfig& config) {
  read_shared(reader, config);
  DecoderOptions& options = config.options;
  options.attention.sinks = true;
  const bool none = reader.is_null("sliding_window");
  options.attention.sliding_window = none ? 0 : reader.size("sliding_window", 128);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    full.push_back(layer % 4 == 0);
  }
  read_layer_types(reader, options, full);
  options.layer_rope_theta = reader.numbers("layer_rope_theta");
  for (size_t layer = 0; layer < options.layer_rope_theta.size(); ++layer) {
    if (options.layer_rope_theta[layer] == 0.0) {
      options.layer_rope_theta[layer] = options.rotary.theta;
      options.no_rope_layers.push_back(static_cast<int64_t>(layer));
    }
  }
  const auto given = static_cast<int64_t>(options.layer_rope_theta.size());
  if (given != 0 && given != options.num_layers) {
    reader.fail_value("layer_rope_theta", "one number for each layer");
  }
}

const TensorRules kGraniteNames{
    {"moe.router", "block_sparse_moe.router.layer"},
    {"moe.router", "block_sparse_moe.router"},
    {"moe.gate_up_proj", "block_sparse_moe.input_linear.weight"},
    {"moe.gate_up_proj", "block_sparse_moe.experts.gate_up_proj"},
    {"moe.down_proj", "block_sparse_moe.output_linear.weight"},
    {"moe.down_proj", "block_sparse_moe.experts.down_proj"},
    {"moe.shared_expert.gate_up_proj", "shared_mlp.input_linear.weight"},
    {"moe.shared_expert.down_proj", "shared_mlp.output_linear.weight"},
};
// Version 5 of transformers brought this one, with the names that it has in memory.
const TensorRules kGraniteSwaNames{
    {"moe.router", "block_sparse_moe.router"},
    {"moe.gate_up_proj", "block_sparse_moe.experts.gate_up_proj"},
    {"moe.down_proj", "block_sparse_moe.experts.down_proj"},
};
const TensorNames kGraniteTensors{.rules = {&kGraniteNames, &kLlamaNames}};
const TensorNames kGraniteSwaTensors{
    .rules = {&kGraniteSwaNames, &kGraniteNames, &kLlamaNames}};

} // namespace

const Family kGraniteMoe{"granitemoe", write_granitemoe, read_granite, &kGraniteTensors};
const Family kGraniteMoeShared{"granitemoeshared", write_shared, read_shared, &kGraniteTensors};
const Family kGraniteMoeSwa{"granitemoe_swa", write_swa, read_swa, &kGraniteSwaTensors};

} // namespace moe
