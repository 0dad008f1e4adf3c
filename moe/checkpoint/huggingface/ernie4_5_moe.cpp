#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

bool has_experts(int64_t layer, int64_t start, int64_t end, int64_t interval) {
  return layer >= start && layer <= end && (layer + 1) % interval == 0;
}

// Start, end and interval that give these layers, if there are any that do.
void write_moe_layers(const DecoderOptions& options, OrderedJson& config) {
  int64_t start = 0;
  int64_t end = options.num_layers - 1;
  while (start < end && !is_moe_layer(options, start)) {
    ++start;
  }
  while (end > start && !is_moe_layer(options, end)) {
    --end;
  }
  int64_t interval = 1;
  const auto fits = [&] {
    for (int64_t layer = 0; layer < options.num_layers; ++layer) {
      if (has_experts(layer, start, end, interval) != is_moe_layer(options, layer)) {
        return false;
      }
    }
    return true;
  };
  while (interval < options.num_layers && !fits()) {
    ++interval;
  }
  config["moe_layer_start_index"] = start;
  config["moe_layer_end_index"] = end;
  config["moe_layer_interval"] = interval;
}

void write_ernie(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Ernie4_5_MoeForCausalLM"};
  write_common(options, extras, config);
  config.erase("head_dim");
  config.erase("attention_bias");
  config["use_bias"] = options.attention.bias;
  config["intermediate_size"] = options.dense_dim;
  config["moe_intermediate_size"] = options.expert_dim;
  config["moe_num_experts"] = options.num_experts;
  config["moe_k"] = options.experts_per_token;
  config["moe_num_shared_experts"] = count_shared_experts(options);
  config["moe_norm_min"] = options.router.normalize_minimum;
  write_moe_layers(options, config);
  write_balance_weight(options, extras, config);
}

void read_ernie(ConfigReader& reader, ReadConfig& config) {
  reader.require_neutral("attention_bias", false);
  read_common(
      reader, config, {.norm_epsilon = 1e-5, .rope_theta = 5e5, .tie_embeddings = true});
  config.form.rotary_pairs = true;
  DecoderOptions& options = config.options;
  options.attention.bias = reader.flag("use_bias", false);
  options.feed_forward_bias = options.head_bias = options.attention.bias;
  options.dense_dim = reader.size("intermediate_size");
  options.expert_dim = reader.size("moe_intermediate_size");
  options.num_experts = reader.size("moe_num_experts");
  read_experts_per_token(reader, config, "moe_k");
  options.shared_expert_dim =
      options.expert_dim * reader.integer("moe_num_shared_experts", 0, 2);
  options.router.normalize_minimum = reader.number("moe_norm_min", 1e-12);
  options.router.selection_bias = true;
  const int64_t start = reader.integer("moe_layer_start_index", 0, 1);
  const int64_t last = reader.integer("moe_layer_end_index", -1, -1);
  const int64_t end = last == -1 ? options.num_layers - 1 : last;
  const int64_t interval = reader.size("moe_layer_interval", 1);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (!has_experts(layer, start, end, interval)) {
      options.dense_layers.push_back(layer);
    }
  }
}

const TensorRules kErnieNames{
    {"moe.router.selection_bias",
     "mlp.moe_statics.e_score_correction_bias",
     TensorForm::one_row},
    {"moe.router.selection_bias",
     "mlp.gate.moe_statics.e_score_correction_bias",
     TensorForm::one_row},
};
const TensorNames kErnieTensors{
    .rules = {&kErnieNames, &kSharedExpertsNames, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kErnie45Moe{"ernie4_5_moe", write_ernie, read_ernie, &kErnieTensors};

} // namespace moe
