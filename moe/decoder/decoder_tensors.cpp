#include "moe/decoder/decoder_tensors.h"

#include <utility>

namespace moe {
namespace {

using Shape = std::vector<int64_t>;

// Collects the tensors of one layer.
class LayerTensors {
 public:
  LayerTensors(std::vector<NamedShape>& tensors, const DecoderOptions& options, int64_t layer)
      : tensors_(tensors),
        options_(options),
        layer_(layer),
        prefix_("layers." + std::to_string(layer) + ".") {}

  void add_all() {
    const NormPlacement placement = options_.norm_placement;
    const bool before = placement != NormPlacement::after;
    const bool after = placement == NormPlacement::after || placement == NormPlacement::both;
    if (before) {
      add_norm("attention_norm");
    }
    if (has_latent_attention(options_)) {
      add_latent_attention();
    } else {
      add_attention();
    }
    if (after) {
      add_norm("attention_output_norm");
    }
    if (before && placement != NormPlacement::parallel) {
      add_norm("feed_forward_norm");
    }
    if (is_moe_layer(options_, layer_)) {
      add_moe();
    } else {
      add_feed_forward("feed_forward.", {}, options_.dense_dim, has_shared_bias());
    }
    if (after) {
      add_norm("feed_forward_output_norm");
    }
  }

 private:
  void add(const std::string& name, Shape shape) {
    tensors_.push_back({prefix_ + name, std::move(shape)});
  }

  void add_norm(const std::string& name) {
    add(name + ".weight", {options_.model_dim});
    if (options_.norm.kind == NormKind::layer_bias) {
      add(name + ".bias", {options_.model_dim});
    }
  }

  void add_linear(const std::string& name, int64_t rows, int64_t columns, bool bias) {
    add(name + ".weight", {rows, columns});
    if (bias) {
      add(name + ".bias", {rows});
    }
  }

  void add_attention() {
    const int64_t head = resolved_head_dim(options_);
    const int64_t heads = layer_heads(options_, layer_);
    const int64_t query = heads * head;
    const int64_t key = resolved_num_kv_heads(options_) * head;
    const bool bias = options_.attention.bias || options_.attention.qkv_bias;
    add_linear("attention.qkv_proj", query + 2 * key, options_.model_dim, bias);
    add_linear("attention.o_proj", options_.model_dim, query, options_.attention.bias);
    if (options_.attention.qk_norm && options_.attention.qk_norm_kind != QKNorm::unweighted) {
      const bool full = options_.attention.qk_norm_kind == QKNorm::full;
      add("attention.q_norm.weight", {full ? query : head});
      add("attention.k_norm.weight", {full ? key : head});
    }
    if (options_.attention.sinks) {
      add("attention.sinks", {heads});
    }
    if (options_.attention.gate != AttentionGate::none) {
      const bool per_head = options_.attention.gate == AttentionGate::softplus_per_head;
      add("attention.gate_proj.weight", {per_head ? heads : query, options_.model_dim});
    }
  }

  void add_latent_attention() {
    const int64_t head = resolved_head_dim(options_);
    const int64_t value = resolved_value_dim(options_);
    const int64_t rotary = resolved_rotary_dim(options_, layer_);
    const int64_t latent = options_.attention.key_value_latent_dim;
    const int64_t heads = options_.attention.num_heads;
    const bool bias = options_.attention.bias;
    if (options_.attention.query_latent_dim > 0) {
      add_linear(
          "attention.q_down_proj",
          options_.attention.query_latent_dim,
          options_.model_dim,
          bias);
      add("attention.q_norm.weight", {options_.attention.query_latent_dim});
      add("attention.q_up_proj.weight", {heads * head, options_.attention.query_latent_dim});
    } else {
      add("attention.q_proj.weight", {heads * head, options_.model_dim});
    }
    add_linear("attention.kv_down_proj", latent + rotary, options_.model_dim, bias);
    add("attention.kv_norm.weight", {latent});
    add("attention.kv_up_proj.weight", {heads * (head - rotary + value), latent});
    add_linear("attention.o_proj", options_.model_dim, heads * value, bias);
  }

  bool has_shared_bias() const {
    return options_.expert_bias || options_.feed_forward_bias;
  }

  // `prefix` ends with a dot, `leading` holds E for stacked experts and nothing otherwise.
  void add_feed_forward(
      const std::string& prefix, const Shape& leading, int64_t hidden, bool bias) {
    const auto add_full = [&](const std::string& name, const Shape& shape) {
      Shape full = leading;
      full.insert(full.end(), shape.begin(), shape.end());
      add(prefix + name, std::move(full));
    };
    const std::string up = options_.expert.gated ? "gate_up" : "up";
    const int64_t up_rows = options_.expert.gated ? 2 * hidden : hidden;
    add_full(up + "_proj", {up_rows, options_.model_dim});
    add_full("down_proj", {options_.model_dim, hidden});
    if (bias) {
      add_full(up + "_bias", {up_rows});
      add_full("down_bias", {options_.model_dim});
    }
  }

  void add_router(int64_t experts) {
    const int64_t width = options_.model_dim;
    const bool cosine = options_.router.gate == RouterGate::cosine;
    const int64_t projected = cosine ? options_.router.cosine_dim : 0;
    add("moe.router.weight", {experts, projected > 0 ? projected : width});
    if (options_.router.bias) {
      add("moe.router.bias", {experts});
    }
    if (projected > 0) {
      add("moe.router.projection", {projected, width});
    }
    if (cosine) {
      add("moe.router.log_scale", {1});
    }
    if (options_.router.noise == RouterNoise::learned) {
      add("moe.router.noise_weight", {experts, width});
    }
    if (options_.router.selection_bias) {
      add(std::string("moe.") + kSelectionBias, {experts});
    }
  }

  void add_moe() {
    const int64_t experts = layer_experts(options_, layer_);
    add_router(experts);
    add_feed_forward("moe.", {experts}, options_.expert_dim, options_.expert_bias);
    if (options_.shared_expert_dim > 0) {
      add_feed_forward("moe.shared_expert.", {}, options_.shared_expert_dim, has_shared_bias());
      if (options_.shared_expert_gate) {
        add("moe.shared_expert_gate.weight", {1, options_.model_dim});
      }
    }
    if (options_.moe_output_norm) {
      add_norm("moe.output_norm");
    }
  }

  std::vector<NamedShape>& tensors_;
  const DecoderOptions& options_;
  int64_t layer_;
  std::string prefix_;
};

} // namespace

std::vector<NamedShape> decoder_tensors(const DecoderOptions& options) {
  const int64_t width = options.model_dim;
  std::vector<NamedShape> tensors;
  tensors.push_back({"embedding.weight", {options.vocab_size, width}});
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    LayerTensors(tensors, options, layer).add_all();
  }
  tensors.push_back({"final_norm.weight", {width}});
  if (options.norm.kind == NormKind::layer_bias) {
    tensors.push_back({"final_norm.bias", {width}});
  }
  if (options.head_bias) {
    tensors.push_back({"head_bias", {options.vocab_size}});
  }
  if (!options.tie_embeddings) {
    tensors.push_back({"lm_head.weight", {options.vocab_size, width}});
  }
  return tensors;
}

bool is_buffer(const std::string& name) {
  return name.ends_with(kSelectionBias);
}

} // namespace moe
