#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_exaone_moe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"ExaoneMoeForCausalLM"};
  write_common(options, extras, config);
  config.erase("attention_bias");
  write_group_router(options, config);
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["moe_intermediate_size"] = options.expert_dim;
  config["intermediate_size"] = options.dense_dim;
  config["num_shared_experts"] = count_shared_experts(options);
  config["mlp_layer_types"] = mlp_layer_types(options);
  config["first_k_dense_replace"] = count_first_dense(options);
  // A window, even of no layer, keeps positions out of the layers without it.
  const bool window = options.attention.sliding_window > 0 || !options.no_rope_layers.empty();
  config["sliding_window"] =
      window
          ? OrderedJson(
                options.attention.sliding_window > 0 ? options.attention.sliding_window : 4096)
          : OrderedJson(nullptr);
  config["layer_types"] = layer_types(options);
}

// Every n-th layer is full, or those with a G in the pattern.
std::vector<bool> full_by_pattern(ConfigReader& reader, int64_t num_layers) {
  std::vector<bool> full;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    if (reader.is_text("sliding_window_pattern")) {
      const std::string pattern = reader.text("sliding_window_pattern");
      if (pattern.empty() || pattern.find_first_not_of("LG") != std::string::npos) {
        reader.fail_value("sliding_window_pattern", "a number, or the letters L and G");
      }
      const auto index = static_cast<size_t>(layer) % pattern.size();
      full.push_back(pattern[index] == 'G' || layer == num_layers - 1);
    } else {
      full.push_back((layer + 1) % reader.size("sliding_window_pattern", 4) == 0);
    }
  }
  return full;
}

void read_exaone_moe(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5});
  DecoderOptions& options = config.options;
  reader.require_neutral("attention_bias", false);
  options.attention.qk_norm = true;
  read_sigmoid_router(reader, options, /*default_scale=*/2.5, /*normalize=*/true);
  options.num_experts = reader.size("num_experts");
  options.experts_per_token = reader.size("num_experts_per_tok");
  options.expert_dim = reader.size("moe_intermediate_size");
  options.dense_dim = reader.size("intermediate_size");
  options.shared_expert_dim = options.expert_dim * reader.integer("num_shared_experts", 0, 1);
  read_mlp_layer_types(reader, options, /*default_dense=*/1);
  const bool no_window = reader.is_null("sliding_window");
  options.attention.sliding_window = no_window ? 0 : reader.size("sliding_window", 4096);
  read_layer_types(
      reader,
      options,
      no_window ? std::vector<bool>(static_cast<size_t>(options.num_layers), true)
                : full_by_pattern(reader, options.num_layers));
  if (!no_window) {
    options.no_rope_layers = options.full_attention_layers;
  }
  reader.ignore({"sliding_window_pattern"});
}

const TensorRules kExaoneNames{
    {"moe.router.selection_bias", "mlp.e_score_correction_bias"},
    {"moe.router.selection_bias", "mlp.gate.e_score_correction_bias"},
};
const TensorNames kExaoneTensors{
    .rules = {&kExaoneNames, &kSharedExpertsNames, &kQwenExpertNames, &kLlamaNames}};

} // namespace

const Family kExaoneMoe{"exaone_moe", write_exaone_moe, read_exaone_moe, &kExaoneTensors};

} // namespace moe
