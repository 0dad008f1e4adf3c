#include "moe/decoder/decoder_options.h"

#include <algorithm>

#include "moe/decoder/decoder_tensors.h"
#include "moe/layers/router_methods.h"

namespace moe {

int64_t layer_heads(const DecoderOptions& options, int64_t layer) {
  return options.layer_num_heads.empty()
             ? options.num_heads
             : options.layer_num_heads.at(static_cast<size_t>(layer));
}

int64_t resolved_num_kv_heads(const DecoderOptions& options) {
  return options.num_kv_heads == 0 ? options.num_heads : options.num_kv_heads;
}

int64_t resolved_head_dim(const DecoderOptions& options) {
  return options.head_dim == 0 ? options.model_dim / options.num_heads : options.head_dim;
}

int64_t resolved_rotary_dim(const DecoderOptions& options, int64_t layer) {
  const int64_t dim = options.layer_rotary_dim.empty()
                          ? options.rotary_dim
                          : options.layer_rotary_dim.at(static_cast<size_t>(layer));
  return dim == 0 ? resolved_head_dim(options) : dim;
}

int64_t resolved_value_dim(const DecoderOptions& options) {
  return options.value_head_dim == 0 ? resolved_head_dim(options) : options.value_head_dim;
}

bool has_latent_attention(const DecoderOptions& options) {
  return options.key_value_latent_dim > 0;
}

bool names_layer(const std::vector<int64_t>& layers, int64_t layer) {
  return std::find(layers.begin(), layers.end(), layer) != layers.end();
}

int64_t layer_experts(const DecoderOptions& options, int64_t layer) {
  if (!is_moe_layer(options, layer)) {
    return 0;
  }
  return options.layer_num_experts.empty()
             ? options.num_experts
             : options.layer_num_experts.at(static_cast<size_t>(layer));
}

bool is_moe_layer(const DecoderOptions& options, int64_t layer) {
  return options.num_experts > 0 && !names_layer(options.dense_layers, layer);
}

bool depends_on_future(const DecoderOptions& options) {
  return options.num_experts > 0 && sees_future(
                                        router_selection_from_name(options.router_selection),
                                        options.capacity_factor,
                                        capacity_drop_from_name(options.capacity_drop));
}

std::string generation_obstacle(const DecoderOptions& options) {
  if (options.num_experts == 0 || options.router_selection != "expert_choice") {
    return {};
  }
  return "router_selection: with expert_choice, the experts of a token depend on the tokens "
         "after it, which there are not when text is generated";
}

DecoderOptions plain_form(const DecoderOptions& options) {
  DecoderOptions plain;
  plain.vocab_size = options.vocab_size;
  plain.context_length = options.context_length;
  plain.model_dim = options.model_dim;
  plain.num_layers = options.num_layers;
  plain.tie_embeddings = options.tie_embeddings;
  plain.num_heads = options.num_heads;
  plain.num_kv_heads = options.num_kv_heads;
  plain.head_dim = options.head_dim;
  plain.qk_norm = options.qk_norm;
  plain.attention_bias = options.attention_bias;
  plain.sliding_window = options.sliding_window;
  plain.rope_theta = options.rope_theta;
  plain.norm_epsilon = options.norm_epsilon;
  plain.num_experts = options.num_experts;
  plain.experts_per_token = options.experts_per_token;
  plain.expert_dim = options.expert_dim;
  plain.dense_layers = options.dense_layers;
  plain.dense_dim = options.dense_dim;
  plain.shared_expert_dim = options.shared_expert_dim;
  plain.shared_expert_gate = options.shared_expert_gate;
  plain.activation = options.activation;
  plain.gated = options.gated;
  plain.expert_bias = options.expert_bias;
  plain.normalize_weights = options.normalize_weights;
  plain.routed_scaling_factor = options.routed_scaling_factor;
  plain.router_jitter = options.router_jitter;
  plain.capacity_factor = options.capacity_factor;
  plain.capacity_drop = options.capacity_drop;
  plain.router_sees_future = options.router_sees_future;
  plain.initializer_range = options.initializer_range;
  return plain;
}

bool has_plain_form(const DecoderOptions& options) {
  const DecoderOptions given = canonical(options);
  return given == canonical(plain_form(given));
}

ParameterCount count_parameters(const DecoderOptions& options) {
  ParameterCount count;
  for (const NamedShape& tensor : decoder_tensors(options)) {
    if (is_buffer(tensor.name)) {
      continue;
    }
    int64_t elements = 1;
    for (const int64_t size : tensor.shape) {
      elements *= size;
    }
    // What is stacked for all experts: "layers.3.moe.down_proj".
    const size_t moe = tensor.name.find(".moe.");
    const bool stacked =
        moe != std::string::npos && tensor.name.find('.', moe + 5) == std::string::npos;
    count.total += elements;
    count.active += stacked ? elements / tensor.shape[0] * options.experts_per_token : elements;
  }
  return count;
}

} // namespace moe
