#include <cmath>

#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

double mup_multiplier(const DecoderOptions& options) {
  return std::sqrt(static_cast<double>(options.model_dim));
}

void write_afmoe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"AfmoeForCausalLM"};
  write_common(options, extras, config);
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["moe_intermediate_size"] = options.expert_dim;
  config["intermediate_size"] = options.dense_dim;
  config["num_shared_experts"] = count_shared_experts(options);
  config["num_dense_layers"] = count_first_dense(options);
  config["route_scale"] = options.router.routed_scaling_factor;
  config["mup_enabled"] = options.embedding_multiplier != 1.0;
  config["sliding_window"] =
      options.attention.sliding_window > 0 ? options.attention.sliding_window : 1024;
  config["layer_types"] = layer_types(options);
}

void read_afmoe(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5, .head_dim = 128});
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.norm_placement = NormPlacement::both;
  options.attention.gate = AttentionGate::sigmoid;
  options.num_experts = read_num_experts(reader, {"num_experts", "num_local_experts"});
  options.experts_per_token = reader.size("num_experts_per_tok");
  options.expert_dim = reader.size("moe_intermediate_size");
  options.dense_dim = reader.size("intermediate_size");
  options.shared_expert_dim = options.expert_dim * reader.size("num_shared_experts", 2);
  read_first_dense(reader, options, "num_dense_layers", 1);
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  options.router.routed_scaling_factor = reader.number("route_scale", 1.0);
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, Json>>{
           {"score_func", "sigmoid"},
           {"route_norm", true},
           {"n_group", 1},
           {"topk_group", 1}}) {
    reader.require_neutral(key, value);
  }
  if (reader.flag("mup_enabled", false)) {
    options.embedding_multiplier = mup_multiplier(options);
  }
  options.attention.sliding_window = reader.size("sliding_window", 1024);
  const int64_t every = reader.size("global_attn_every_n_layers", 4);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    full.push_back((layer + 1) % every == 0);
  }
  read_layer_types(reader, options, full);
  options.no_rope_layers = options.full_attention_layers;
}

const TensorRules kAfmoeNames{
    {"attention_norm", "input_layernorm"},
    {"attention_output_norm", "post_attention_layernorm"},
    {"feed_forward_norm", "pre_mlp_layernorm"},
    {"feed_forward_output_norm", "post_mlp_layernorm"},
    {"attention.gate_proj", "self_attn.gate_proj"},
    {"moe.router", "mlp.router.gate"},
    {"moe.router.selection_bias", "mlp.expert_bias"},
};
const TensorNames kAfmoeTensors{
    .rules = {&kAfmoeNames, &kSharedExpertsNames, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kAfmoe{"afmoe", write_afmoe, read_afmoe, &kAfmoeTensors};

} // namespace moe
