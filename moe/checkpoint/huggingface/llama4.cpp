#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

void write_llama4(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Llama4ForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.expert_dim;
  config["intermediate_size_mlp"] = options.dense_dim;
  config["num_local_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["use_qk_norm"] = options.attention.qk_norm;
  OrderedJson turning = OrderedJson::array();
  OrderedJson experts = OrderedJson::array();
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    turning.push_back(names_layer(options.no_rope_layers, layer) ? 0 : 1);
    if (is_moe_layer(options, layer)) {
      experts.push_back(layer);
    }
  }
  config["no_rope_layers"] = turning;
  config["moe_layers"] = experts;
  config["attention_chunk_size"] = options.attention.chunk > 0 ? options.attention.chunk : 8192;
  config["layer_types"] = layer_types(options, "chunked_attention");
  config["attn_temperature_tuning"] = options.attention.query_growth != 0.0;
  config["attn_scale"] =
      options.attention.query_growth != 0.0 ? options.attention.query_growth : 0.1;
  config["floor_scale"] = options.attention.query_growth_length;
  write_balance_weight(options, extras, config);
}

void read_positions(ConfigReader& reader, DecoderOptions& options) {
  const int64_t interval = reader.size("no_rope_layer_interval", 4);
  const auto given = reader.integers("no_rope_layers"); // 1 for a layer with positions
  if (!given.empty() && static_cast<int64_t>(given.size()) != options.num_layers) {
    reader.fail_value("no_rope_layers", "0 or 1 for each layer");
  }
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const bool turns =
        given.empty() ? (layer + 1) % interval != 0 : given[static_cast<size_t>(layer)] != 0;
    if (!turns) {
      options.no_rope_layers.push_back(layer);
    }
    full.push_back(!turns);
  }
  options.attention.chunk =
      reader.is_null("attention_chunk_size") ? 0 : reader.size("attention_chunk_size", 8192);
  read_layer_types(reader, options, full, "chunked_attention");
  // Published files have a number where newer ones have true.
  const bool tuned = reader.is_number("attn_temperature_tuning")
                         ? reader.number("attn_temperature_tuning", 0.0) != 0.0
                         : reader.flag("attn_temperature_tuning", true);
  options.attention.query_growth = reader.number("attn_scale", 0.1);
  options.attention.query_growth_length = reader.size("floor_scale", 8192);
  if (!tuned || options.no_rope_layers.empty()) {
    options.attention.query_growth = 0.0;
  }
}

void read_llama4(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.norm_epsilon = 1e-5, .rope_theta = 5e5, .head_dim = 128});
  config.form.rotary_pairs = true;
  DecoderOptions& options = config.options;
  read_positions(reader, options);
  options.attention.qk_norm = reader.flag("use_qk_norm", true);
  options.attention.qk_norm_kind = QKNorm::unweighted;
  options.num_experts = read_num_experts(reader, {"num_local_experts", "num_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = options.shared_expert_dim = reader.size("intermediate_size");
  options.dense_dim = reader.size("intermediate_size_mlp", 16384);
  options.router.score = RouterScore::sigmoid;
  options.router.normalize_weights = false;
  options.router.weights_on_input = true;
  const int64_t step = reader.size("interleave_moe_layer_step", 1);
  const bool listed = reader.has("moe_layers");
  const auto experts = reader.integers("moe_layers");
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (listed ? !names_layer(experts, layer) : (layer + 1) % step != 0) {
      options.dense_layers.push_back(layer);
    }
  }
  reader.ignore({"router_jitter_noise", "for_llm_compressor"});
}

const TensorRules kLlama4Names{
    {"moe.router", "feed_forward.router"},
    {"moe.gate_up_proj", "feed_forward.experts.gate_up_proj", TensorForm::transposed},
    {"moe.down_proj", "feed_forward.experts.down_proj", TensorForm::transposed},
    {"moe.shared_expert.gate_up_proj", "feed_forward.shared_expert.{gate,up}_proj.weight"},
    {"moe.shared_expert.down_proj", "feed_forward.shared_expert.down_proj.weight"},
    {"feed_forward.gate_up_proj", "feed_forward.{gate,up}_proj.weight"},
    {"feed_forward.down_proj", "feed_forward.down_proj.weight"},
};
const TensorNames kLlama4Tensors{.rules = {&kLlama4Names, &kLlamaNames}};

} // namespace

const Family kLlama4Text{"llama4_text", write_llama4, read_llama4, &kLlama4Tensors};

} // namespace moe
