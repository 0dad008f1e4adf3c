#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

// What both have: windows, positions by type of layer, dense layers by name.
void write_typed_layers(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_common(options, extras, config);
  config.erase("rope_theta");
  config.erase("rope_scaling");
  write_rope_by_layer_type(options, config);
  config["num_experts_per_tok"] = options.experts_per_token;
  config["moe_intermediate_size"] = options.expert_dim;
  config["intermediate_size"] = options.dense_dim;
  config["mlp_layer_types"] = mlp_layer_types(options);
  config["sliding_window"] =
      options.attention.sliding_window > 0 ? options.attention.sliding_window : 1024;
  config["layer_types"] = layer_types(options);
  write_balance_weight(options, extras, config);
}

void read_typed_layers(
    ConfigReader& reader, ReadConfig& config, int64_t window, int64_t first_dense) {
  read_common(reader, config, {.head_dim = 128, .rope_by_layer_type = true});
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = reader.size("moe_intermediate_size");
  options.dense_dim = reader.size("intermediate_size");
  options.attention.sliding_window = reader.size("sliding_window", window);
  read_mlp_layer_types(reader, options, first_dense);
  read_layer_types(
      reader, options, std::vector<bool>(static_cast<size_t>(options.num_layers), true));
}

void write_mellum(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"MellumForCausalLM"};
  write_typed_layers(options, extras, config);
  config["num_local_experts"] = options.num_experts;
  config["norm_topk_prob"] = options.router.normalize_weights;
}

void read_mellum(ConfigReader& reader, ReadConfig& config) {
  read_typed_layers(reader, config, /*window=*/1024, /*first_dense=*/0);
  config.options.router.normalize_weights = reader.flag("norm_topk_prob", true);
  read_rope_by_layer_type(
      reader, config.options, {{"rope_theta", 500000.0}}, {{"rope_theta", 10000.0}});
  reader.ignore({"mtp_layer_types", "mtp_mlp_layer_types", "num_mtp_layers"});
}

void write_laguna(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"LagunaForCausalLM"};
  write_typed_layers(options, extras, config);
  config["num_experts"] = options.num_experts;
  config["gating"] = options.attention.gate == AttentionGate::softplus_per_head;
  OrderedJson heads = OrderedJson::array();
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    heads.push_back(layer_heads(options, layer));
  }
  config["num_attention_heads_per_layer"] = heads;
  config["shared_expert_intermediate_size"] = options.shared_expert_dim;
  config["moe_routed_scaling_factor"] = options.router.routed_scaling_factor;
  config["moe_router_logit_softcapping"] = options.router.logit_cap;
  config["moe_apply_router_weight_on_input"] = false;
}

void read_laguna(ConfigReader& reader, ReadConfig& config) {
  read_typed_layers(reader, config, /*window=*/512, /*first_dense=*/1);
  DecoderOptions& options = config.options;
  const bool per_head = reader.is_text("gating") ? reader.text("gating") == "per-head"
                                                 : reader.flag("gating", true);
  options.attention.gate =
      per_head ? AttentionGate::softplus_per_head : AttentionGate::softplus;
  options.layer_num_heads = reader.integers("num_attention_heads_per_layer");
  options.shared_expert_dim = reader.size("shared_expert_intermediate_size", 512);
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  options.router.logit_cap = reader.number("moe_router_logit_softcapping", 0.0);
  options.router.routed_scaling_factor = reader.number("moe_routed_scaling_factor", 1.0);
  reader.require_neutral("moe_apply_router_weight_on_input", false);
  read_rope_by_layer_type(
      reader,
      options,
      {{"rope_theta", 500000.0}, {"partial_rotary_factor", 0.5}},
      {{"rope_theta", 10000.0}});
}

const TensorNames kMellumTensors{.rules = {&kQwenExpertNames, &kLlamaNames}};

const TensorRules kLagunaNames{
    {"attention.gate_proj", "self_attn.g_proj"},
    {"moe.router.selection_bias", "mlp.experts.e_score_correction_bias"},
    {"moe.router.selection_bias", "mlp.gate.e_score_correction_bias"},
    {"moe.shared_expert.gate_up_proj", "mlp.shared_expert.{gate,up}_proj.weight"},
    {"moe.shared_expert.gate_up_proj", "mlp.shared_experts.{gate,up}_proj.weight"},
    {"moe.shared_expert.down_proj", "mlp.shared_expert.down_proj.weight"},
    {"moe.shared_expert.down_proj", "mlp.shared_experts.down_proj.weight"},
};
const TensorNames kLagunaTensors{.rules = {&kLagunaNames, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kMellum{"mellum", write_mellum, read_mellum, &kMellumTensors};
const Family kLaguna{"laguna", write_laguna, read_laguna, &kLagunaTensors};

} // namespace moe
