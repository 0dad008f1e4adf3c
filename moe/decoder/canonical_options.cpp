#include <algorithm>
#include <cmath>

#include "moe/decoder/decoder_options.h"

namespace moe {
namespace {

// Lists with one value per layer that are all the same say nothing.
template <class T>
void drop_uniform(std::vector<T>& values, const T& common) {
  if (std::all_of(values.begin(), values.end(), [&](const T& v) { return v == common; })) {
    values.clear();
  }
}

void sort_layers(std::vector<int64_t>& layers) {
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
}

void complete_attention(DecoderOptions& options) {
  const bool has_multiplier = options.attention.multiplier != 0.0;
  options.attention = resolved(options.attention, options.model_dim);
  if (!has_latent_attention(options)) {
    options.attention.multiplier =
        has_multiplier ? options.attention.multiplier
                       : 1.0 / std::sqrt(static_cast<double>(options.attention.head_dim));
  }
  drop_uniform(options.layer_num_heads, options.attention.num_heads);
  if (static_cast<int64_t>(options.full_attention_layers.size()) == options.num_layers) {
    options.attention.sliding_window = options.attention.chunk = 0;
  }
}

void complete_rotary(DecoderOptions& options) {
  for (const int64_t layer : options.no_rope_layers) {
    if (!options.layer_rope_theta.empty()) {
      options.layer_rope_theta.at(static_cast<size_t>(layer)) = options.rotary.theta;
    }
  }
  drop_uniform(options.layer_rope_theta, options.rotary.theta);
  const auto width = [&](int64_t dim) { return dim == 0 ? options.attention.head_dim : dim; };
  for (int64_t& dim : options.layer_rotary_dim) {
    dim = width(dim);
  }
  options.rotary.dim = width(options.rotary.dim);
  drop_uniform(options.layer_rotary_dim, options.rotary.dim);
  if (static_cast<int64_t>(options.rope_unscaled_layers.size()) == options.num_layers) {
    options.rotary.scaling = RotaryScaling::none;
  }
  if (options.rotary.original_length == 0) {
    options.rotary.original_length = options.context_length;
  }
}

void simplify_router(RouterForm& router) {
  // One group is no group.
  if (selects_by_groups(router) && router.groups <= 1) {
    router.selection = RouterSelection::top_k;
  }
  if (router.weighting == RouterWeighting::softmax && router.score == RouterScore::softmax) {
    // The same numbers: softmax scores divided by their sum.
    const RouterForm defaults;
    router.weighting = RouterWeighting::scores;
    router.normalize_weights = true;
    router.normalize_power = defaults.normalize_power;
    router.normalize_minimum = defaults.normalize_minimum;
  }
  // The permission is not part of the model.
  router.sees_future = depends_on_future(router);
}

// A list says something only of layers with experts, and only if they differ.
void drop_uniform_experts(DecoderOptions& options) {
  int64_t most = 0;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    most = std::max(most, layer_experts(options, layer));
  }
  options.num_experts = most;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (!options.layer_num_experts.empty() && names_layer(options.dense_layers, layer)) {
      options.layer_num_experts[static_cast<size_t>(layer)] = most;
    }
  }
  drop_uniform(options.layer_num_experts, most);
}

// What only layers with experts have.
void drop_experts(DecoderOptions& options) {
  const DecoderOptions defaults;
  options.layer_num_experts.clear();
  options.experts_per_token = defaults.experts_per_token;
  options.expert_dim = defaults.expert_dim;
  options.dense_layers.clear();
  options.shared_expert_dim = 0;
  options.feed_forward_bias = options.feed_forward_bias || options.expert_bias;
  options.expert_bias = false;
  options.moe_output_norm = false;
  options.moe_output_multiplier = 1.0;
  options.router = {};
}

void complete_experts(DecoderOptions& options) {
  drop_uniform_experts(options);
  if (options.num_experts == 0) {
    drop_experts(options);
  } else if (options.dense_layers.empty()) {
    options.dense_dim = DecoderOptions().dense_dim;
  }
  const bool any_shared_form = options.num_experts == 0 || !options.dense_layers.empty() ||
                               options.shared_expert_dim > 0;
  options.feed_forward_bias =
      options.feed_forward_bias && any_shared_form && !options.expert_bias;
  simplify_router(options.router);
}

} // namespace

DecoderOptions canonical(const DecoderOptions& options) {
  DecoderOptions result = options;
  for (auto* layers :
       {&result.full_attention_layers,
        &result.no_rope_layers,
        &result.rope_unscaled_layers,
        &result.dense_layers}) {
    sort_layers(*layers);
  }
  complete_attention(result);
  complete_rotary(result);
  complete_experts(result);
  reset_unused(result);
  return result;
}

} // namespace moe
