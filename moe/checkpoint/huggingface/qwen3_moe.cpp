#include <algorithm>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

std::vector<std::string> qwen3_moe_obstacles(const DecoderOptions& options) {
  auto found = common_obstacles(options);
  if (options.num_experts == 0) {
    found.emplace_back("num_experts (0)");
  }
  if (!options.qk_norm) {
    found.emplace_back("qk_norm (false)");
  }
  return found;
}

void qwen3_moe_write(
    const DecoderOptions& options, const ConfigExtras& extras, OrderedJson& config) {
  config["architectures"] = {"Qwen3MoeForCausalLM"};
  write_common(options, extras, config);
  // Without dense layers the width is not used, but transformers wants one.
  config["intermediate_size"] = options.dense_dim > 0 ? options.dense_dim : options.expert_dim;
  config["moe_intermediate_size"] = options.expert_dim;
  config["num_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["norm_topk_prob"] = options.normalize_weights;
  config["decoder_sparse_step"] = 1;
  config["mlp_only_layers"] = options.dense_layers;
  config["output_router_logits"] = false;
  // Theirs is K at perfect balance, ours is 1.
  config["router_aux_loss_coef"] =
      extras.load_balancing_weight / static_cast<double>(options.experts_per_token);
  config["use_sliding_window"] = options.sliding_window > 0;
  config["sliding_window"] =
      options.sliding_window > 0 ? OrderedJson(options.sliding_window) : OrderedJson(nullptr);
}

int64_t read_num_experts(ConfigReader& reader) {
  // transformers 5.23 writes the second name.
  const std::string key = reader.has("num_experts") ? "num_experts" : "num_local_experts";
  const int64_t experts = reader.has(key) ? reader.size(key) : reader.size("num_experts");
  if (reader.has("num_local_experts") && reader.size("num_local_experts") != experts) {
    reader.fail_value("num_local_experts", "the same as num_experts");
  }
  return experts;
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

void qwen3_moe_read(ConfigReader& reader, DecoderOptions& options, ConfigExtras& extras) {
  read_common(reader, options, extras);
  options.head_dim = reader.size("head_dim", 0);
  options.qk_norm = true;
  options.num_experts = read_num_experts(reader);
  options.experts_per_token = reader.size("num_experts_per_tok");
  options.expert_dim = reader.size("moe_intermediate_size");
  options.normalize_weights = reader.flag("norm_topk_prob", false);
  read_dense_layers(reader, options);
  options.sliding_window =
      reader.flag("use_sliding_window", false) ? reader.size("sliding_window", 4096) : 0;
  reader.ignore(
      {"sliding_window", "max_window_layers"}); // Qwen3-MoE windows every layer or none
  extras.load_balancing_weight = reader.number("router_aux_loss_coef", 0.001) *
                                 static_cast<double>(options.experts_per_token);
}

} // namespace

const Family kQwen3Moe{
    "qwen3_moe", qwen3_moe_obstacles, qwen3_moe_write, qwen3_moe_read, qwen_tensors};

} // namespace moe
