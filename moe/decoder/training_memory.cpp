#include "moe/decoder/training_memory.h"

#include <algorithm>

namespace moe {
namespace {

/// Numbers of 4 bytes that a token keeps in one layer.
struct LayerNumbers {
  double input;  ///< what `recompute` keeps, too
  double router; ///< likewise
  double rest;
};

double network_numbers(int64_t width, bool gated) {
  return static_cast<double>((gated ? 4 : 2) * width);
}

double attention_numbers(const DecoderOptions& model, int64_t layer) {
  const auto head_dim = static_cast<double>(resolved_head_dim(model));
  const auto heads = static_cast<double>(layer_heads(model, layer));
  const auto kv_heads = static_cast<double>(resolved_num_kv_heads(model));
  const double projected = (heads + 2 * kv_heads) * head_dim;
  const double norm_roots = model.attention.qk_norm ? heads + kv_heads : 0;
  return 2 * projected + heads * head_dim + heads + norm_roots;
}

double latent_attention_numbers(const DecoderOptions& model, int64_t layer) {
  const auto head_dim = static_cast<double>(resolved_head_dim(model));
  const auto value_dim = static_cast<double>(resolved_value_dim(model));
  const auto still = head_dim - static_cast<double>(resolved_rotary_dim(model, layer));
  const auto heads = static_cast<double>(model.attention.num_heads);
  // Narrow values are copied twice: to the keys' width, and back from it.
  const double values = value_dim < head_dim ? head_dim + value_dim : still + value_dim;
  const double latents =
      2.0 * static_cast<double>(
                model.attention.query_latent_dim + model.attention.key_value_latent_dim);
  const double norm_roots = model.attention.query_latent_dim > 0 ? 2 : 1;
  return heads * (3 * head_dim + values) + heads + latents + norm_roots;
}

LayerNumbers layer_numbers(const DecoderOptions& model, int64_t layer) {
  const auto dim = static_cast<double>(model.model_dim);
  const double attention = has_latent_attention(model) ? latent_attention_numbers(model, layer)
                                                       : attention_numbers(model, layer);
  LayerNumbers numbers{dim, 0.0, 3 * dim + attention + /*norm roots=*/2};
  if (!is_moe_layer(model, layer)) {
    numbers.rest += network_numbers(model.dense_dim, model.expert.gated);
    return numbers;
  }
  const auto chosen = static_cast<double>(model.experts_per_token);
  const auto width = static_cast<double>(model.expert_dim);
  numbers.router = 2 * static_cast<double>(layer_experts(model, layer)) + 8 * chosen;
  numbers.rest += chosen * width * (model.expert.gated ? 2 : 1) +
                  network_numbers(model.shared_expert_dim, model.expert.gated) +
                  (model.shared_expert_gate ? dim : 0.0);
  return numbers;
}

} // namespace

TrainingMemory training_memory(
    const DecoderOptions& model, int64_t batch_size, int64_t sequence_length, bool recompute) {
  constexpr double number_bytes = 4.0;
  const double tokens = static_cast<double>(batch_size) * static_cast<double>(sequence_length);
  const auto dim = static_cast<double>(model.model_dim);
  double per_token = 3 * dim;
  double largest_block = 0.0;
  for (int64_t layer = 0; layer < model.num_layers; ++layer) {
    const auto numbers = layer_numbers(model, layer);
    per_token += numbers.input + numbers.router + (recompute ? 0.0 : numbers.rest);
    largest_block = std::max(largest_block, numbers.rest);
  }
  TrainingMemory memory;
  memory.parameters = 4 * number_bytes * static_cast<double>(count_parameters(model).total);
  memory.activations =
      number_bytes * (tokens * per_token + dim * static_cast<double>(model.vocab_size));
  memory.recomputed_block = recompute ? number_bytes * tokens * largest_block : 0.0;
  return memory;
}

} // namespace moe
