#include "moe/generation/packed_decoder.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string_view>
#include <type_traits>

#include "moe/generation/token_routing.h"
#include "moe/kernels/cpu_norm.h"

namespace moe {
namespace {

/// Shares the tensor's memory and keeps it alive, if it is float32.
std::shared_ptr<const float> shared_data(const torch::Tensor& tensor) {
  auto owner = std::make_shared<const torch::Tensor>(
      tensor.detach().to(torch::kCPU, torch::kFloat32).contiguous());
  const float* data = owner->const_data_ptr<float>();
  return {std::move(owner), data};
}

PackedMatrix pack(const torch::Tensor& weight, WeightType type) {
  const int64_t columns = weight.size(-1);
  const int64_t rows = weight.numel() / columns;
  auto data = shared_data(weight);
  return type == WeightType::float32 ? view_matrix(std::move(data), rows, columns)
                                     : pack_matrix(data.get(), rows, columns, type);
}

/// Weights that stay float32, of a model that is packed as `type`: shared only if all are.
PackedMatrix pack_exactly(const torch::Tensor& weight, WeightType type) {
  return pack(type == WeightType::float32 ? weight : weight.clone(), WeightType::float32);
}

std::vector<float> values(const torch::Tensor& tensor) {
  if (!tensor.defined()) {
    return {};
  }
  const auto data = shared_data(tensor);
  return {data.get(), data.get() + tensor.numel()};
}

PackedExperts pack_experts(
    const DecoderOptions& options,
    const std::string& prefix,
    const TensorLookup& tensors,
    WeightType type) {
  const auto get = [&](const char* name) { return tensors(prefix + name); };
  const auto down = get("down_proj"); // [E, D, F] or [D, F]
  PackedExperts packed;
  packed.form = {
      options.expert.activation,
      options.expert.gated,
      options.expert.limit,
      options.expert.sigmoid_scale,
      options.expert.offset};
  packed.width = down.size(-1);
  packed.experts = down.dim() == 3 ? down.size(0) : 1;
  packed.down = pack(down, type);
  packed.up = pack(get(options.expert.gated ? "gate_up_proj" : "up_proj"), type);
  packed.up_bias = values(get(options.expert.gated ? "gate_up_bias" : "up_bias"));
  packed.down_bias = values(get("down_bias"));
  return packed;
}

void pack_moe(
    const DecoderOptions& options,
    const std::string& prefix,
    const TensorLookup& tensors,
    WeightType type,
    PackedLayer& layer) {
  const auto get = [&](const char* name) { return tensors(prefix + name); };
  layer.router = pack_exactly(get("router.weight"), type);
  layer.router_bias = values(get("router.bias"));
  layer.selection_bias = values(get("router.selection_bias"));
  layer.experts = pack_experts(options, prefix, tensors, type);
  if (options.shared_expert_dim > 0) {
    layer.shared_expert = pack_experts(options, prefix + "shared_expert.", tensors, type);
  }
  if (options.shared_expert_gate) {
    layer.shared_expert_gate = pack_exactly(get("shared_expert_gate.weight"), type);
  }
}

PackedLayer pack_layer(
    const DecoderOptions& options,
    int64_t index,
    const TensorLookup& tensors,
    WeightType type) {
  const auto prefix = "layers." + std::to_string(index) + ".";
  const auto get = [&](const char* name) { return tensors(prefix + name); };
  PackedLayer layer;
  layer.attention_norm = values(get("attention_norm.weight"));
  layer.qkv = pack(get("attention.qkv_proj.weight"), type);
  layer.qkv_bias = values(get("attention.qkv_proj.bias"));
  layer.q_norm = values(get("attention.q_norm.weight"));
  layer.k_norm = values(get("attention.k_norm.weight"));
  layer.sinks = values(get("attention.sinks"));
  layer.o = pack(get("attention.o_proj.weight"), type);
  layer.o_bias = values(get("attention.o_proj.bias"));
  layer.sliding_window =
      names_layer(options.full_attention_layers, index) ? 0 : options.attention.sliding_window;
  layer.feed_forward_norm = values(get("feed_forward_norm.weight"));
  if (is_moe_layer(options, index)) {
    pack_moe(options, prefix + "moe.", tensors, type, layer);
  } else {
    layer.experts = pack_experts(options, prefix + "feed_forward.", tensors, type);
  }
  return layer;
}

void unpack(const PackedMatrix& matrix, torch::Tensor& weight) {
  if (weight.defined()) {
    float* const to = weight.mutable_data_ptr<float>();
    at::parallel_for(0, matrix.rows, /*grain_size=*/64, [&](int64_t begin, int64_t end) {
      unpack_rows(matrix, begin, end - begin, to + begin * matrix.columns);
    });
  }
}

void unpack(const std::vector<float>& from, torch::Tensor& to) {
  if (to.defined()) {
    std::copy(from.begin(), from.end(), to.mutable_data_ptr<float>());
  }
}

int64_t expert_bytes(const PackedExperts& packed) {
  return packed.experts == 0 ? 0 : (packed.up.bytes() + packed.down.bytes()) / packed.experts;
}

int64_t attention_bytes(const PackedLayer& layer) {
  return layer.qkv.bytes() + layer.o.bytes() + layer.router.bytes() +
         expert_bytes(layer.shared_expert) + layer.shared_expert_gate.bytes();
}

/// The name of the first option in which the two differ; empty if there is none.
std::string first_difference(const DecoderOptions& left, const DecoderOptions& right) {
  for (const auto& row : option_table<DecoderOptions>()) {
    if (row.read(left) != row.read(right)) {
      return row.key;
    }
  }
  return {};
}

/// These options with the defaults for all that is not packed.
DecoderOptions packable_form(const DecoderOptions& options) {
  auto packable = keep_options(options, [](const OptionRow<DecoderOptions>& row) {
    return row.traits.support != OptionSupport::modules;
  });
  const DecoderOptions defaults;
  if (options.attention.qk_norm_kind == QKNorm::unweighted) {
    packable.attention.qk_norm_kind = defaults.attention.qk_norm_kind;
  }
  // Frequencies of these change when a sequence grows.
  if (options.rotary.scaling == RotaryScaling::dynamic ||
      options.rotary.scaling == RotaryScaling::longrope) {
    packable.rotary.scaling = RotaryScaling::none;
  }
  if (!can_route_token(packed_router_options(options))) {
    packable.router.selection = defaults.router.selection;
    packable.router.weighting = defaults.router.weighting;
  }
  return packable;
}

} // namespace

TopKRouterOptions packed_router_options(const DecoderOptions& options) {
  const auto layers = moe_layers(options);
  return layers.empty() ? TopKRouterOptions(options.model_dim, /*num_experts=*/1)
                        : moe_block_options(options, layers.front()).router();
}

int64_t PackedDecoder::bytes() const {
  const bool tied = head.weights == embedding.weights;
  int64_t sum = embedding.bytes() + (tied ? 0 : head.bytes());
  for (const auto& layer : layers) {
    sum += attention_bytes(layer) + layer.experts.up.bytes() + layer.experts.down.bytes();
  }
  return sum;
}

int64_t PackedDecoder::active_bytes() const {
  int64_t sum = head.bytes() + embedding.row_bytes();
  for (const auto& layer : layers) {
    const int64_t chosen = layer.router.rows > 0 ? options.experts_per_token : 1;
    sum += attention_bytes(layer) + chosen * expert_bytes(layer.experts);
  }
  return sum;
}

std::string packing_obstacle(const DecoderOptions& options) {
  if (resolved_head_dim(options) > cpu::kMaxHeadDim) {
    return "head_dim";
  }
  if (has_latent_attention(options)) {
    return "key_value_latent_dim";
  }
  const auto given = canonical(options);
  return first_difference(given, canonical(packable_form(given)));
}

PackedDecoder pack_decoder(
    const DecoderOptions& options, const TensorLookup& tensors, WeightType type) {
  const auto obstacle = packing_obstacle(options);
  TORCH_CHECK(obstacle.empty(), "pack_decoder: no packed form for a model with ", obstacle);
  PackedDecoder packed;
  packed.options = options;
  packed.type = type;
  packed.embedding = pack(tensors("embedding.weight"), type);
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    packed.layers.push_back(pack_layer(options, layer, tensors, type));
  }
  packed.final_norm = values(tensors("final_norm.weight"));
  packed.head_bias = values(tensors("head_bias"));
  packed.head =
      options.tie_embeddings ? packed.embedding : pack(tensors("lm_head.weight"), type);
  return packed;
}

PackedDecoder pack_decoder(const DecoderLM& model, WeightType type) {
  auto tensors = model->named_parameters();
  for (const auto& buffer : model->named_buffers()) {
    tensors.insert(buffer.key(), buffer.value());
  }
  const auto find = [&](const std::string& name) {
    const auto* tensor = tensors.find(name);
    return tensor == nullptr ? torch::Tensor() : *tensor;
  };
  return pack_decoder(model->options, find, type);
}

void round_weights(DecoderLM& model, WeightType type) {
  constexpr std::array<std::string_view, 7> kPacked{
      "embedding.weight",
      "qkv_proj.weight",
      "o_proj.weight",
      "gate_up_proj",
      "up_proj",
      "down_proj",
      "lm_head.weight"};
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    const bool packed = std::any_of(kPacked.begin(), kPacked.end(), [&](std::string_view name) {
      return item.key().ends_with(name);
    });
    if (packed) {
      unpack(pack(item.value(), type), item.value());
      item.value().unsafeGetTensorImpl()->bump_version(); // for autograd
    }
  }
}

void unpack_attention(const PackedLayer& layer, DecoderBlockImpl& block) {
  auto& attention = *block.attention;
  unpack(layer.attention_norm, block.attention_norm->weight);
  unpack(layer.qkv, attention.qkv_proj->weight);
  unpack(layer.qkv_bias, attention.qkv_proj->bias);
  if (!attention.q_norm.is_empty()) {
    unpack(layer.q_norm, attention.q_norm->weight);
    unpack(layer.k_norm, attention.k_norm->weight);
  }
  unpack(layer.sinks, attention.sinks);
  unpack(layer.o, attention.o_proj->weight);
  unpack(layer.o_bias, attention.o_proj->bias);
  unpack(layer.feed_forward_norm, block.feed_forward_norm->weight);
}

} // namespace moe
