#include <utility>

#include "moe/checkpoint/huggingface/family_internal.h"

namespace moe {
namespace {

// A list of one of two words per layer: the layers that have the first.
std::optional<std::vector<int64_t>> layers_with(
    ConfigReader& reader,
    const std::string& key,
    int64_t num_layers,
    std::string_view word,
    std::string_view other) {
  const auto words = reader.texts(key);
  if (!words) {
    return std::nullopt;
  }
  std::vector<int64_t> layers;
  for (size_t i = 0; i < words->size(); ++i) {
    if ((*words)[i] == word) {
      layers.push_back(static_cast<int64_t>(i));
    } else if ((*words)[i] != other) {
      reader.fail_value(key, std::string(word) + " or " + std::string(other));
    }
  }
  if (static_cast<int64_t>(words->size()) != num_layers) {
    reader.fail_value(key, "one for each of " + std::to_string(num_layers) + " layers");
  }
  return layers;
}

OrderedJson words(
    const DecoderOptions& options,
    const std::vector<int64_t>& layers,
    std::string_view word,
    std::string_view other) {
  OrderedJson list = OrderedJson::array();
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    list.push_back(names_layer(layers, layer) ? word : other);
  }
  return list;
}

std::vector<int64_t> first_layers(int64_t count, int64_t num_layers) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < std::min(count, num_layers); ++layer) {
    layers.push_back(layer);
  }
  return layers;
}

} // namespace

void read_layer_types(
    ConfigReader& reader,
    DecoderOptions& options,
    const std::vector<bool>& default_is_full,
    std::string_view other) {
  auto full = layers_with(reader, "layer_types", options.num_layers, "full_attention", other);
  if (!full) {
    full.emplace();
    for (size_t layer = 0; layer < default_is_full.size(); ++layer) {
      if (default_is_full[layer]) {
        full->push_back(static_cast<int64_t>(layer));
      }
    }
  }
  options.full_attention_layers = std::move(*full);
}

OrderedJson layer_types(const DecoderOptions& options, std::string_view other) {
  if (options.attention.sliding_window > 0 || options.attention.chunk > 0) {
    return words(options, options.full_attention_layers, "full_attention", other);
  }
  return words(options, {}, "", "full_attention");
}

void read_mlp_layer_types(
    ConfigReader& reader, DecoderOptions& options, int64_t default_dense) {
  const int64_t first = reader.integer("first_k_dense_replace", 0, default_dense);
  const auto dense =
      layers_with(reader, "mlp_layer_types", options.num_layers, "dense", "sparse");
  options.dense_layers = dense ? *dense : first_layers(first, options.num_layers);
}

OrderedJson mlp_layer_types(const DecoderOptions& options) {
  return words(options, options.dense_layers, "dense", "sparse");
}

void read_first_dense(
    ConfigReader& reader, DecoderOptions& options, const char* key, int64_t fallback) {
  options.dense_layers = first_layers(reader.integer(key, 0, fallback), options.num_layers);
}

int64_t count_first_dense(const DecoderOptions& options) {
  int64_t count = 0;
  while (count < options.num_layers && !is_moe_layer(options, count)) {
    ++count;
  }
  return count;
}

void read_groups(ConfigReader& reader, DecoderOptions& options, RouterSelection selection) {
  const int64_t groups = reader.size("n_group", 1);
  options.router.groups_kept = reader.size("topk_group", 1);
  if (groups > 1) {
    options.router.selection = selection;
    options.router.groups = groups;
  }
}

void read_sigmoid_router(
    ConfigReader& reader, DecoderOptions& options, double default_scale, bool normalize) {
  options.router.score = RouterScore::sigmoid;
  options.router.selection_bias = true;
  options.router.normalize_weights = reader.flag("norm_topk_prob", normalize);
  options.router.routed_scaling_factor = reader.number("routed_scaling_factor", default_scale);
  reader.require_neutral("scoring_func", "sigmoid");
  reader.require_neutral("topk_method", "noaux_tc");
  read_groups(reader, options, RouterSelection::groups_by_top2);
}

void write_group_router(const DecoderOptions& options, OrderedJson& config) {
  config["norm_topk_prob"] = options.router.normalize_weights;
  config["routed_scaling_factor"] = options.router.routed_scaling_factor;
  const bool groups = options.router.selection != RouterSelection::top_k;
  config["n_group"] = groups ? options.router.groups : 1;
  config["topk_group"] = groups ? options.router.groups_kept : 1;
}

void read_deepseek_experts(ConfigReader& reader, ReadConfig& config, int64_t default_shared) {
  DecoderOptions& options = config.options;
  options.num_experts = read_num_experts(reader, {"n_routed_experts", "num_local_experts"});
  options.experts_per_token = reader.size("num_experts_per_tok");
  options.expert_dim = reader.size("moe_intermediate_size");
  const bool none = reader.is_null("n_shared_experts");
  options.shared_expert_dim =
      none ? 0 : options.expert_dim * reader.integer("n_shared_experts", 0, default_shared);
  options.dense_dim = reader.size("intermediate_size", options.dense_dim);
  reader.require_neutral("moe_layer_freq", 1);
  reader.require_neutral("ep_size", 1);
  reader.ignore({"aux_loss_alpha", "seq_aux"});
}

void write_deepseek_experts(const DecoderOptions& options, OrderedJson& config) {
  config["n_routed_experts"] = options.num_experts;
  config["num_experts_per_tok"] = options.experts_per_token;
  config["moe_intermediate_size"] = options.expert_dim;
  config["n_shared_experts"] = count_shared_experts(options);
  config["intermediate_size"] = options.dense_dim;
  config["output_router_logits"] = false;
}

void read_latent_attention(
    ConfigReader& reader, ReadConfig& config, const CommonDefaults& defaults) {
  DecoderOptions& options = config.options;
  options.attention.key_value_latent_dim = reader.size("kv_lora_rank");
  read_common(reader, config, defaults);
  const int64_t still = reader.size("qk_nope_head_dim");
  const int64_t turning = reader.size("qk_rope_head_dim");
  options.attention.head_dim = still + turning;
  options.rotary.dim = turning;
  options.attention.value_head_dim = reader.size("v_head_dim");
  options.attention.query_latent_dim =
      reader.is_null("q_lora_rank") ? 0 : reader.size("q_lora_rank", 1536);
  options.attention.num_kv_heads = options.attention.num_heads;
  reader.ignore({"qk_head_dim", "head_dim", "num_key_value_heads"});
  config.form.rotary_pairs = reader.flag("rope_interleave", true);
}

void write_latent_attention(const DecoderOptions& options, OrderedJson& config) {
  const int64_t turning = resolved_rotary_dim(options, 0);
  config["kv_lora_rank"] = options.attention.key_value_latent_dim;
  config["q_lora_rank"] = options.attention.query_latent_dim > 0
                              ? OrderedJson(options.attention.query_latent_dim)
                              : OrderedJson(nullptr);
  config["qk_nope_head_dim"] = resolved_head_dim(options) - turning;
  config["qk_rope_head_dim"] = turning;
  config["head_dim"] = turning;
  config["v_head_dim"] = resolved_value_dim(options);
  config["rope_interleave"] = true;
}

} // namespace moe
