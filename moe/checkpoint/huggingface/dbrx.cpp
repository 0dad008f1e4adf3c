#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_dbrx(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"DbrxForCausalLM"};
  write_model_ends(options, extras, config);
  config["d_model"] = options.model_dim;
  config["n_heads"] = options.attention.num_heads;
  config["n_layers"] = options.num_layers;
  config["max_seq_len"] = options.context_length;
  write_rope(options, config);
  config["attn_config"] = {
      {"kv_n_heads", resolved_num_kv_heads(options)},
      {"clip_qkv",
       options.attention.clip_qkv > 0.0 ? OrderedJson(options.attention.clip_qkv) : nullptr},
      {"rope_theta", options.rotary.theta}};
  config["ffn_config"] = {
      {"ffn_hidden_size", options.expert_dim},
      {"ffn_act_fn", {{"name", hidden_act(options.expert.activation)}}},
      {"moe_num_experts", options.num_experts},
      {"moe_top_k", options.experts_per_token},
      {"moe_loss_weight",
       extras.load_balancing_weight / static_cast<double>(options.experts_per_token)},
      {"moe_normalize_expert_weights",
       options.router.normalize_weights ? OrderedJson(options.router.normalize_power)
                                        : nullptr}};
}

void read_dbrx(ConfigReader& reader, ReadConfig& config) {
  read_model_ends(reader, config, /*tie_embeddings=*/false);
  DecoderOptions& options = config.options;
  reader.require_neutral("tie_word_embeddings", false);
  options.model_dim = reader.size("d_model");
  options.attention.num_heads = reader.size("n_heads");
  options.num_layers = read_num_layers(reader, "n_layers");
  options.context_length = reader.size("max_seq_len");
  options.norm.kind = NormKind::layer;
  options.norm.epsilon = 1e-5;
  reader.ignore({"num_key_value_heads", "resid_pdrop", "emb_pdrop"});
  ConfigReader attention(reader.object("attn_config"), reader.file() + ": attn_config");
  options.attention.num_kv_heads = attention.size("kv_n_heads", 1);
  options.attention.clip_qkv =
      attention.has("clip_qkv") ? attention.positive("clip_qkv", 0.0) : 0.0;
  ConfigReader experts(reader.object("ffn_config"), reader.file() + ": ffn_config");
  options.num_experts = experts.size("moe_num_experts");
  options.experts_per_token = experts.size("moe_top_k");
  options.expert_dim = experts.size("ffn_hidden_size");
  config.extras.load_balancing_weight =
      experts.number("moe_loss_weight", 0.01) * static_cast<double>(options.experts_per_token);
  const std::string normalize = "moe_normalize_expert_weights";
  options.router.normalize_weights = !experts.is_null(normalize);
  options.router.normalize_power =
      options.router.normalize_weights ? experts.positive(normalize, 1.0) : 1.0;
  ConfigReader activation(
      experts.object("ffn_act_fn"), reader.file() + ": ffn_config: ffn_act_fn");
  options.expert.activation =
      experts.has("ffn_act_fn") ? activation_from_act(activation, "name") : Activation::silu;
  // Files of before 5 have the base of positions here only.
  read_rope(reader, options, {.rope_theta = attention.positive("rope_theta", 10000.0)});
}

const TensorRules kDbrxNames{
    {"attention_norm", "norm_attn_norm.norm_1"},
    {"feed_forward_norm", "norm_attn_norm.norm_2"},
    {"attention.qkv_proj", "norm_attn_norm.attn.Wqkv"},
    {"attention.o_proj", "norm_attn_norm.attn.out_proj"},
    {"moe.router", "ffn.router.layer"},
    {"moe.gate_up_proj", "ffn.experts.mlp.{w1,v1}", TensorForm::stacked},
    {"moe.down_proj", "ffn.experts.mlp.w2", TensorForm::stacked_transposed},
};
const TensorNames kDbrxTensors{
    .rules = {&kDbrxNames},
    .embedding = "transformer.wte.weight",
    .layers = "transformer.blocks.",
    .final_norm = "transformer.norm_f"};

} // namespace

const Family kDbrx{"dbrx", write_dbrx, read_dbrx, &kDbrxTensors};

} // namespace moe
