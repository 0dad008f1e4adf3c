#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_latent_experts(
    const DecoderOptions& options,
    const ConfigExtras& extras,
    const char* architecture,
    OrderedJson& config) {
  config["architectures"] = {architecture};
  write_common(options, extras, config);
  write_latent_attention(options, config);
  write_deepseek_experts(options, config);
  write_group_router(options, config);
}

void write_deepseek_v2(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_latent_experts(options, extras, "DeepseekV2ForCausalLM", config);
  config.erase("rope_interleave");
  config["first_k_dense_replace"] = count_first_dense(options);
  config["topk_method"] =
      options.router.selection == RouterSelection::top_k ? "greedy" : "group_limited_greedy";
  config["mlp_bias"] = options.feed_forward_bias;
}

void read_deepseek_v2(ConfigReader& reader, ReadConfig& config) {
  read_latent_attention(reader, config);
  config.form.rotary_pairs = true;
  read_deepseek_experts(reader, config, /*default_shared=*/2);
  DecoderOptions& options = config.options;
  read_first_dense(reader, options, "first_k_dense_replace", 0);
  options.feed_forward_bias = reader.flag("mlp_bias", false);
  options.router.routed_scaling_factor = reader.number("routed_scaling_factor", 1.0);
  options.router.normalize_weights = false;
  reader.require_neutral("norm_topk_prob", false);
  reader.require_neutral("scoring_func", "softmax");
  const std::string method = reader.text("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    read_groups(reader, options, RouterSelection::groups_by_max);
  } else if (method != "greedy") {
    reader.fail_value("topk_method", "greedy or group_limited_greedy");
  }
  reader.ignore({"n_group", "topk_group"});
}

void write_deepseek_v3(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_latent_experts(options, extras, "DeepseekV3ForCausalLM", config);
  config["first_k_dense_replace"] = count_first_dense(options);
  config["scoring_func"] = "sigmoid";
  config["topk_method"] = "noaux_tc";
  config["num_nextn_predict_layers"] = 0;
}

void read_deepseek_v3(ConfigReader& reader, ReadConfig& config) {
  read_latent_attention(reader, config);
  read_deepseek_experts(reader, config);
  read_first_dense(reader, config.options, "first_k_dense_replace", 3);
  read_sigmoid_router(reader, config.options, /*default_scale=*/2.5, /*normalize=*/true);
}

void write_glm4_moe_lite(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_latent_experts(options, extras, "Glm4MoeLiteForCausalLM", config);
  config["mlp_layer_types"] = mlp_layer_types(options);
}

void read_glm4_moe_lite(ConfigReader& reader, ReadConfig& config) {
  read_latent_attention(reader, config, {.norm_epsilon = 1e-5});
  read_deepseek_experts(reader, config);
  read_mlp_layer_types(reader, config.options, /*default_dense=*/1);
  read_sigmoid_router(reader, config.options, /*default_scale=*/1.8, /*normalize=*/true);
}

void write_axk1(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_latent_experts(options, extras, "AXK1ForCausalLM", config);
  config["mlp_layer_types"] = mlp_layer_types(options);
}

void read_axk1(ConfigReader& reader, ReadConfig& config) {
  read_latent_attention(reader, config);
  read_deepseek_experts(reader, config);
  read_mlp_layer_types(reader, config.options, /*default_dense=*/1);
  read_sigmoid_router(reader, config.options, /*default_scale=*/2.5, /*normalize=*/true);
  config.options.moe_output_norm = true;
}

const TensorRules kOutputNormOfExperts{{"moe.output_norm", "post_mlp_layernorm"}};

const TensorNames kDeepseekTensors{
    .rules = {
        &kLatentAttentionNames,
        &kSelectionBiasNames,
        &kSharedExpertsNames,
        &kQwenExpertNames,
        &kOutputNormOfExperts,
        &kLlamaNames}};

} // namespace

const Family kDeepseekV2{"deepseek_v2", write_deepseek_v2, read_deepseek_v2, &kDeepseekTensors};
const Family kDeepseekV3{"deepseek_v3", write_deepseek_v3, read_deepseek_v3, &kDeepseekTensors};
const Family kGlm4MoeLite{
    "glm4_moe_lite", write_glm4_moe_lite, read_glm4_moe_lite, &kDeepseekTensors};
const Family kAxk1{"axk1", write_axk1, read_axk1, &kDeepseekTensors};

} // namespace moe
