#include <algorithm>

#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

// Dense layers that see all tokens turn by their positions only if the pattern of the dense
// prefix is 1.
bool dense_layers_turn(const DecoderOptions& options) {
  return std::none_of(
      options.no_rope_layers.begin(), options.no_rope_layers.end(), [&](int64_t layer) {
        return !is_moe_layer(options, layer);
      });
}

void write_cohere2_moe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Cohere2MoeForCausalLM"};
  write_common(options, extras, config);
  const bool rms = options.norm.kind == NormKind::rms;
  config["rms_norm_eps"] = rms ? OrderedJson(options.norm.epsilon) : OrderedJson(nullptr);
  config["layer_norm_eps"] = options.norm.epsilon;
  config["logit_scale"] = options.logits_multiplier;
  config["intermediate_size"] = options.expert_dim;
  config["prefix_dense_intermediate_size"] =
      options.dense_layers.empty() ? OrderedJson(nullptr) : OrderedJson(options.dense_dim);
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["num_shared_experts"] = count_shared_experts(options);
  config["shared_expert_combination_strategy"] =
      options.moe_output_multiplier == 0.5 ? "average" : "sum";
  config["expert_selection_fn"] = enum_name(options.router.score);
  config["norm_topk_prob"] = options.router.normalize_weights;
  config["mlp_layer_types"] = mlp_layer_types(options);
  config["sliding_window"] =
      options.attention.sliding_window > 0 ? options.attention.sliding_window : 4096;
  config["layer_types"] = layer_types(options);
  config["prefix_dense_sliding_window_pattern"] = dense_layers_turn(options) ? 1 : 2;
}

void read_cohere_layers(ConfigReader& reader, DecoderOptions& options) {
  const int64_t first_dense = reader.integer("first_k_dense_replace", 0, 0);
  read_mlp_layer_types(reader, options, /*default_dense=*/0);
  const int64_t dense_pattern = reader.size("prefix_dense_sliding_window_pattern", 1);
  const int64_t pattern = reader.size("sliding_window_pattern", 4);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    full.push_back(
        layer < first_dense ? (layer + 1) % dense_pattern == 0
                            : (layer - first_dense + 1) % pattern == 0);
  }
  options.attention.sliding_window = reader.size("sliding_window", 4096);
  read_layer_types(reader, options, full);
  for (const int64_t layer : options.full_attention_layers) {
    if (is_moe_layer(options, layer) || dense_pattern != 1) {
      options.no_rope_layers.push_back(layer);
    }
  }
}

void read_cohere2_moe(ConfigReader& reader, ReadConfig& config) {
  const bool rms = reader.has("rms_norm_eps");
  CommonDefaults defaults{.norm_epsilon = 1e-5, .tie_embeddings = true, .head_dim = 128};
  defaults.norm_epsilon_key = rms ? "rms_norm_eps" : "layer_norm_eps";
  read_common(reader, config, defaults);
  reader.ignore({"layer_norm_eps"});
  config.form.rotary_pairs = true;
  DecoderOptions& options = config.options;
  options.norm.kind = rms ? NormKind::rms : NormKind::layer;
  options.norm_placement = NormPlacement::parallel;
  options.logits_multiplier = reader.number("logit_scale", 0.0625);
  options.num_experts = read_num_experts(reader, {"num_experts", "num_local_experts"});
  options.experts_per_token = reader.size("num_experts_per_tok");
  options.expert_dim = reader.size("intermediate_size");
  options.dense_dim = reader.size("prefix_dense_intermediate_size", options.expert_dim);
  options.shared_expert_dim = options.expert_dim * reader.integer("num_shared_experts", 0, 0);
  const std::string combine = reader.text("shared_expert_combination_strategy", "average");
  if (combine != "average" && combine != "sum") {
    reader.fail_value("shared_expert_combination_strategy", "average or sum");
  }
  if (options.shared_expert_dim > 0 && combine == "average") {
    options.moe_output_multiplier = 0.5;
  }
  options.router.score = read_enum(reader, "expert_selection_fn", RouterScore::softmax);
  options.router.normalize_weights = reader.flag("norm_topk_prob", true);
  if (options.router.score == RouterScore::softmax) {
    options.router.normalize_weights = true; // it is the softmax over the chosen
  }
  read_cohere_layers(reader, options);
}

const TensorNames kCohereTensors{
    .rules = {&kSharedExpertsNames, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kCohere2Moe{"cohere2_moe", write_cohere2_moe, read_cohere2_moe, &kCohereTensors};

} // namespace moe
