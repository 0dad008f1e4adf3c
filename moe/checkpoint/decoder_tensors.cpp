#include "moe/checkpoint/decoder_tensors.h"

#include <utility>

namespace moe {
namespace {

using Shape = std::vector<int64_t>;

// The feed-forward network of one layer: `prefix` ends with a dot, `leading` holds E for
// stacked experts and nothing otherwise.
void add_feed_forward(
    std::vector<NamedShape>& tensors,
    const DecoderOptions& options,
    const std::string& prefix,
    const Shape& leading,
    int64_t hidden) {
  const auto add = [&](const std::string& name, const Shape& shape) {
    Shape full = leading;
    full.insert(full.end(), shape.begin(), shape.end());
    tensors.push_back({prefix + name, std::move(full)});
  };
  const std::string up = options.gated ? "gate_up" : "up";
  const int64_t up_rows = options.gated ? 2 * hidden : hidden;
  add(up + "_proj", {up_rows, options.model_dim});
  add("down_proj", {options.model_dim, hidden});
  if (options.expert_bias) {
    add(up + "_bias", {up_rows});
    add("down_bias", {options.model_dim});
  }
}

void add_attention(
    std::vector<NamedShape>& tensors,
    const DecoderOptions& options,
    const std::string& prefix) {
  const int64_t head = resolved_head_dim(options);
  const int64_t query = options.num_heads * head;
  const int64_t rows = query + 2 * resolved_num_kv_heads(options) * head;
  tensors.push_back({prefix + "qkv_proj.weight", {rows, options.model_dim}});
  tensors.push_back({prefix + "o_proj.weight", {options.model_dim, query}});
  if (options.attention_bias) {
    tensors.push_back({prefix + "qkv_proj.bias", {rows}});
    tensors.push_back({prefix + "o_proj.bias", {options.model_dim}});
  }
  if (options.qk_norm) {
    tensors.push_back({prefix + "q_norm.weight", {head}});
    tensors.push_back({prefix + "k_norm.weight", {head}});
  }
}

void add_moe(
    std::vector<NamedShape>& tensors,
    const DecoderOptions& options,
    const std::string& prefix) {
  tensors.push_back({prefix + "router.weight", {options.num_experts, options.model_dim}});
  add_feed_forward(tensors, options, prefix, {options.num_experts}, options.expert_dim);
  if (options.shared_expert_dim > 0) {
    add_feed_forward(
        tensors, options, prefix + "shared_expert.", {}, options.shared_expert_dim);
    if (options.shared_expert_gate) {
      tensors.push_back({prefix + "shared_expert_gate.weight", {1, options.model_dim}});
    }
  }
}

} // namespace

std::vector<NamedShape> decoder_tensors(const DecoderOptions& options) {
  const int64_t width = options.model_dim;
  std::vector<NamedShape> tensors;
  tensors.push_back({"embedding.weight", {options.vocab_size, width}});
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const std::string prefix = "layers." + std::to_string(layer) + ".";
    tensors.push_back({prefix + "attention_norm.weight", {width}});
    add_attention(tensors, options, prefix + "attention.");
    tensors.push_back({prefix + "feed_forward_norm.weight", {width}});
    if (is_moe_layer(options, layer)) {
      add_moe(tensors, options, prefix + "moe.");
    } else {
      add_feed_forward(tensors, options, prefix + "feed_forward.", {}, options.dense_dim);
    }
  }
  tensors.push_back({"final_norm.weight", {width}});
  if (!options.tie_embeddings) {
    tensors.push_back({"lm_head.weight", {options.vocab_size, width}});
  }
  return tensors;
}

} // namespace moe
