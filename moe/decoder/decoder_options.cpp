#include "moe/decoder/decoder_options.h"

#include <algorithm>
#include <cmath>

#include "moe/error.h"
#include "moe/kernels/expert_form.h"
#include "moe/option_checks_internal.h"

namespace moe {
namespace {

int64_t feed_forward_parameters(const DecoderOptions& options, int64_t dim) {
  const int64_t up = options.gated ? 2 * dim : dim;
  const int64_t biases = options.expert_bias ? up + options.model_dim : 0;
  return (up + dim) * options.model_dim + biases;
}

int64_t attention_parameters(const DecoderOptions& options) {
  const int64_t head = resolved_head_dim(options);
  const int64_t query = options.num_heads * head;
  const int64_t qkv = query + 2 * resolved_num_kv_heads(options) * head;
  const int64_t biases = options.attention_bias ? qkv + options.model_dim : 0;
  return options.model_dim * (qkv + query) + biases + (options.qk_norm ? 2 * head : 0);
}

} // namespace

int64_t resolved_num_kv_heads(const DecoderOptions& options) {
  return options.num_kv_heads == 0 ? options.num_heads : options.num_kv_heads;
}

int64_t resolved_head_dim(const DecoderOptions& options) {
  return options.head_dim == 0 ? options.model_dim / options.num_heads : options.head_dim;
}

bool is_moe_layer(const DecoderOptions& options, int64_t layer) {
  const auto& dense = options.dense_layers;
  return options.num_experts > 0 && std::find(dense.begin(), dense.end(), layer) == dense.end();
}

void validate(const DecoderOptions& options) {
  check_at_least(1, "vocab_size", options.vocab_size);
  check_at_least(1, "context_length", options.context_length);
  check_at_least(1, "model_dim", options.model_dim);
  check_at_least(1, "num_layers", options.num_layers);
  check_at_least(1, "num_heads", options.num_heads);
  check_at_least(0, "num_kv_heads", options.num_kv_heads);
  check_at_least(0, "head_dim", options.head_dim);
  check_at_least(0, "sliding_window", options.sliding_window);
  check(
      options.head_dim > 0 || options.model_dim % options.num_heads == 0,
      "num_heads: ",
      options.num_heads,
      " does not divide model_dim (",
      options.model_dim,
      "); choose a divisor or set head_dim");
  check(
      options.num_heads % resolved_num_kv_heads(options) == 0,
      "num_kv_heads: ",
      resolved_num_kv_heads(options),
      " does not divide num_heads (",
      options.num_heads,
      ")");
  check(
      resolved_head_dim(options) % 2 == 0,
      "head_dim: ",
      resolved_head_dim(options),
      " is odd; rotary positions need an even width");
  check_number_above_zero("rope_theta", options.rope_theta);
  check_number_above_zero("norm_epsilon", options.norm_epsilon);
  check_at_least(0, "num_experts", options.num_experts);
  check_at_least(0, "shared_expert_dim", options.shared_expert_dim);
  activation_from_name(options.activation);
  check(
      std::isfinite(options.initializer_range) && options.initializer_range >= 0.0,
      "initializer_range: ",
      options.initializer_range,
      " is not possible; a number of at least 0");
  check(
      std::isfinite(options.routed_scaling_factor),
      "routed_scaling_factor: ",
      options.routed_scaling_factor,
      " is not finite");
  for (const int64_t layer : options.dense_layers) {
    check(
        layer >= 0 && layer < options.num_layers,
        "dense_layers: there is no layer ",
        layer,
        "; layers are 0 to ",
        options.num_layers - 1);
  }
  bool any_dense = false;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    any_dense = any_dense || !is_moe_layer(options, layer);
  }
  if (any_dense) {
    check_at_least(1, "dense_dim", options.dense_dim);
  }
  if (options.num_experts > 0) {
    check_at_least(1, "expert_dim", options.expert_dim);
    check(
        options.experts_per_token >= 1 && options.experts_per_token <= options.num_experts,
        "experts_per_token: ",
        options.experts_per_token,
        " is not in 1 to num_experts (",
        options.num_experts,
        ")");
  }
}

ParameterCount count_parameters(const DecoderOptions& options) {
  const int64_t embedding = options.vocab_size * options.model_dim;
  ParameterCount count;
  count.total = count.active = embedding * (options.tie_embeddings ? 1 : 2) + options.model_dim;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    const int64_t always = attention_parameters(options) + 2 * options.model_dim;
    count.total += always;
    count.active += always;
    if (!is_moe_layer(options, layer)) {
      count.total += feed_forward_parameters(options, options.dense_dim);
      count.active += feed_forward_parameters(options, options.dense_dim);
      continue;
    }
    int64_t every_token = options.num_experts * options.model_dim;
    if (options.shared_expert_dim > 0) {
      every_token += feed_forward_parameters(options, options.shared_expert_dim);
      every_token += options.shared_expert_gate ? options.model_dim : 0;
    }
    const int64_t expert = feed_forward_parameters(options, options.expert_dim);
    count.total += every_token + options.num_experts * expert;
    count.active += every_token + options.experts_per_token * expert;
  }
  return count;
}

} // namespace moe
