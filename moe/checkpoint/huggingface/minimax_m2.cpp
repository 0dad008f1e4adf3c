#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_minimax_m2(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"MiniMaxM2ForCausalLM"};
  write_common(options, extras, config);
  config.erase("attention_bias");
  config["intermediate_size"] = options.expert_dim;
  config["num_local_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["rotary_dim"] = resolved_rotary_dim(options, 0);
  write_balance_weight(options, extras, config);
}

void read_minimax_m2(ConfigReader& reader, ReadConfig& config) {
  CommonDefaults defaults{.rope_theta = 5e6, .head_dim = 128, .partial_rotary_factor = 1.0};
  if (reader.has("rotary_dim")) {
    defaults.partial_rotary_factor = static_cast<double>(reader.size("rotary_dim")) /
                                     static_cast<double>(reader.size("head_dim", 128));
  }
  reader.require_neutral("attention_bias", false);
  read_common(reader, config, defaults);
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.attention.qk_norm_kind = QKNorm::full;
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = reader.size("intermediate_size");
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  for (const auto& [key, value] : std::initializer_list<std::pair<const char*, Json>>{
           {"scoring_func", "sigmoid"},
           {"use_routing_bias", true},
           {"use_qk_norm", true},
           {"qk_norm_type", "per_layer"},
           {"shared_intermediate_size", 0}}) {
    reader.require_neutral(key, value);
  }
  reader.ignore({"router_jitter_noise"}); // noise in training only
}

const TensorRules kMinimaxNames{
    {"moe.router.selection_bias", "block_sparse_moe.e_score_correction_bias"},
    {"moe.router.selection_bias", "mlp.e_score_correction_bias"},
};
const TensorNames kMinimaxTensors{
    .rules = {&kMinimaxNames, &kMixtralExpertNames, &kLlamaNames}};

} // namespace

const Family kMinimaxM2{"minimax_m2", write_minimax_m2, read_minimax_m2, &kMinimaxTensors};

} // namespace moe
