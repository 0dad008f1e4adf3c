#include <algorithm>

#include "moe/checkpoint/huggingface/families_internal.h"

namespace moe {
namespace {

constexpr int64_t kDefaultWindow = 4096;
constexpr int64_t kDefaultMaxWindowLayers = 28;

void write_window(const DecoderOptions& options, OrderedJson& config) {
  config["use_sliding_window"] = options.attention.sliding_window > 0;
  config["sliding_window"] = number_or_null(options.attention.sliding_window);
}

// Layers with a window, by `layer_types` or by a rule of the layer's index.
template <class Rule>
void read_window(ConfigReader& reader, DecoderOptions& options, const Rule& has_window) {
  const bool used = reader.flag("use_sliding_window", false);
  options.attention.sliding_window = used ? reader.size("sliding_window", kDefaultWindow) : 0;
  reader.ignore({"sliding_window"});
  const int64_t limit =
      reader.integer("max_window_layers", /*least=*/0, kDefaultMaxWindowLayers);
  std::vector<bool> full;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    full.push_back(!used || !has_window(layer, limit));
  }
  read_layer_types(reader, options, full);
  const bool all_full =
      static_cast<int64_t>(options.full_attention_layers.size()) == options.num_layers;
  if (!used && !all_full) {
    reader.fail_value("layer_types", "full_attention only, as use_sliding_window is not true");
  }
  if (all_full) {
    options.attention.sliding_window = 0;
  }
  if (options.attention.sliding_window == 0) {
    options.full_attention_layers.clear();
  }
}

void write_qwen3(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Qwen3ForCausalLM"};
  write_common(options, extras, config);
  config["intermediate_size"] = options.dense_dim;
  write_window(options, config);
  config["layer_types"] = layer_types(options);
  // Older versions know only this: layers from here on have the window.
  config["max_window_layers"] = options.attention.sliding_window > 0
                                    ? static_cast<int64_t>(options.full_attention_layers.size())
                                    : options.num_layers;
}

void read_qwen3(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config, {.head_dim = 128});
  DecoderOptions& options = config.options;
  options.num_experts = 0;
  options.dense_dim = reader.size("intermediate_size");
  read_window(reader, options, [](int64_t layer, int64_t limit) { return layer >= limit; });
  options.attention.qk_norm = true;
}

void write_qwen_experts(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  write_common(options, extras, config);
  // Without dense layers the width is not used, but transformers wants one.
  config["intermediate_size"] = options.dense_dim > 0 ? options.dense_dim : options.expert_dim;
  config["moe_intermediate_size"] = options.expert_dim;
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["norm_topk_prob"] = options.router.normalize_weights;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = options.dense_layers;
  write_balance_weight(options, extras, config);
  write_window(options, config);
}

void read_dense_layers(ConfigReader& reader, DecoderOptions& options) {
  const int64_t step = reader.size("decoder_sparse_step", 1);
  auto& dense = options.dense_layers;
  dense = reader.integers("mlp_only_layers");
  for (int64_t layer = 0; step > 1 && layer < options.num_layers; ++layer) {
    if ((layer + 1) % step != 0) {
      dense.push_back(layer);
    }
  }
  std::sort(dense.begin(), dense.end());
  dense.erase(std::unique(dense.begin(), dense.end()), dense.end());
  if (!dense.empty() && dense.back() >= options.num_layers) {
    reader.fail_value("mlp_only_layers", "layers below num_hidden_layers");
  }
  options.dense_dim =
      dense.empty() ? reader.size("intermediate_size", 6144) : reader.size("intermediate_size");
}

void read_qwen_experts(ConfigReader& reader, ReadConfig& config) {
  read_common(reader, config);
  DecoderOptions& options = config.options;
  // transformers 5.23 writes the second name.
  options.num_experts = read_num_experts(reader, {"num_experts", "num_local_experts"});
  read_experts_per_token(reader, config);
  options.expert_dim = reader.size("moe_intermediate_size");
  options.router.normalize_weights = reader.flag("norm_topk_prob", false);
  read_dense_layers(reader, options);
}

void write_qwen3_moe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Qwen3MoeForCausalLM"};
  write_qwen_experts(options, extras, config);
}

void read_qwen3_moe(ConfigReader& reader, ReadConfig& config) {
  read_qwen_experts(reader, config);
  DecoderOptions& options = config.options;
  options.attention.qk_norm = true;
  options.attention.sliding_window = reader.flag("use_sliding_window", false)
                                         ? reader.size("sliding_window", kDefaultWindow)
                                         : 0;
  reader.ignore({"sliding_window", "max_window_layers"}); // every layer or none has the window
}

void write_qwen2_moe(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Qwen2MoeForCausalLM"};
  write_qwen_experts(options, extras, config);
  config.erase("attention_bias");
  config.erase("head_dim");
  config["qkv_bias"] = options.attention.qkv_bias;
  config["shared_expert_intermediate_size"] = options.shared_expert_dim;
  config["layer_types"] = layer_types(options);
  config["max_window_layers"] = options.num_layers;
}

void read_qwen2_moe(ConfigReader& reader, ReadConfig& config) {
  reader.require_neutral("attention_bias", false);
  read_qwen_experts(reader, config);
  DecoderOptions& options = config.options;
  options.attention.qkv_bias = reader.flag("qkv_bias", true);
  options.shared_expert_dim = reader.size("shared_expert_intermediate_size", 5632);
  options.shared_expert_gate = true;
  read_window(reader, options, [](int64_t layer, int64_t limit) {
    return layer % 2 == 0 && layer < limit;
  });
}

const TensorRules kQwenSharedNames{
    {"moe.shared_expert_gate", "mlp.shared_expert_gate"},
    {"moe.shared_expert.gate_up_proj", "mlp.shared_expert.{gate,up}_proj.weight"},
    {"moe.shared_expert.down_proj", "mlp.shared_expert.down_proj.weight"},
};
const TensorNames kQwenTensors{.rules = {&kQwenExpertNames, &kQwenSharedNames, &kLlamaNames}};

} // namespace

const Family kQwen3{"qwen3", write_qwen3, read_qwen3, &kQwenTensors};
const Family kQwen3Moe{"qwen3_moe", write_qwen3_moe, read_qwen3_moe, &kQwenTensors};
const Family kQwen2Moe{"qwen2_moe", write_qwen2_moe, read_qwen2_moe, &kQwenTensors};

} // namespace moe
