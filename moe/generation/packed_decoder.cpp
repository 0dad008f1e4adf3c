#include "moe/generation/packed_decoder.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <type_traits>

#include "moe/kernels/cpu_norm.h"

namespace moe {
namespace {

/// Shares the tensor's memory and keeps it alive.
std::shared_ptr<const float> shared_data(const torch::Tensor& tensor) {
  auto owner = std::make_shared<const torch::Tensor>(tensor.detach().contiguous());
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

std::vector<float> values(const torch::Tensor& tensor) {
  if (!tensor.defined()) {
    return {};
  }
  const auto data = shared_data(tensor);
  return {data.get(), data.get() + tensor.numel()};
}

PackedExperts pack_experts(
    const torch::Tensor& up, const torch::Tensor& down, ExpertForm form, WeightType type) {
  PackedExperts packed;
  packed.form = form;
  packed.width = down.size(-1);
  packed.experts = down.dim() == 3 ? down.size(0) : 1;
  packed.up = pack(up, type);
  packed.down = pack(down, type);
  return packed;
}

PackedExperts pack_expert(const ExpertImpl& expert, WeightType type) {
  const bool gated = expert.options.gated();
  return pack_experts(
      gated ? expert.gate_up_proj : expert.up_proj,
      expert.down_proj,
      {expert.options.activation(), gated},
      type);
}

void pack_moe(const SparseMoEBlockImpl& moe, WeightType type, PackedLayer& layer) {
  const auto weights = moe.expert_weights();
  layer.router = pack(moe.router->weight, WeightType::float32);
  layer.experts = pack_experts(
      weights.up, weights.down, {moe.options.activation(), moe.options.gated()}, type);
  if (!moe.shared_expert.is_empty()) {
    layer.shared_expert = pack_expert(*moe.shared_expert, type);
  }
  if (!moe.shared_expert_gate.is_empty()) {
    layer.shared_expert_gate = pack(moe.shared_expert_gate->weight, WeightType::float32);
  }
}

PackedLayer pack_layer(const DecoderBlockImpl& block, WeightType type) {
  PackedLayer layer;
  const auto& attention = *block.attention;
  layer.attention_norm = values(block.attention_norm->weight);
  layer.qkv = pack(attention.qkv_proj->weight, type);
  layer.qkv_bias = values(attention.qkv_proj->bias);
  if (!attention.q_norm.is_empty()) {
    layer.q_norm = values(attention.q_norm->weight);
    layer.k_norm = values(attention.k_norm->weight);
  }
  layer.o = pack(attention.o_proj->weight, type);
  layer.o_bias = values(attention.o_proj->bias);
  layer.feed_forward_norm = values(block.feed_forward_norm->weight);
  if (block.moe.is_empty()) {
    layer.experts = pack_expert(*block.feed_forward, type);
  } else {
    pack_moe(*block.moe, type, layer);
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
  std::string difference;
  const auto compare = [&](const char* name, const auto& value, const char*) {
    DecoderOptions::visit_fields(
        right, [&](const char* other_name, const auto& other, const char*) {
          if constexpr (std::is_same_v<decltype(value), decltype(other)>) {
            const bool same_field = std::string_view(name) == other_name;
            if (same_field && value != other && difference.empty()) {
              difference = name;
            }
          }
        });
  };
  DecoderOptions::visit_fields(left, compare);
  return difference;
}

} // namespace

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

std::string packing_obstacle(const DecoderLM& model) {
  const auto& weight = model->embedding->weight;
  if (!weight.is_cpu() || weight.scalar_type() != torch::kFloat32) {
    return "weights that are not float32 on the CPU";
  }
  if (resolved_head_dim(model->options) > cpu::kMaxHeadDim) {
    return "head_dim";
  }
  auto packable = plain_form(model->options);
  packable.expert_bias = false;
  return first_difference(model->options, packable);
}

PackedDecoder pack_decoder(const DecoderLM& model, WeightType type) {
  const auto obstacle = packing_obstacle(model);
  TORCH_CHECK(obstacle.empty(), "pack_decoder: no packed form for a model with ", obstacle);
  PackedDecoder packed;
  packed.options = model->options;
  packed.type = type;
  packed.embedding = pack(model->embedding->weight, type);
  for (size_t layer = 0; layer < model->layers->size(); ++layer) {
    packed.layers.push_back(pack_layer(model->layers->at<DecoderBlockImpl>(layer), type));
  }
  packed.final_norm = values(model->final_norm->weight);
  packed.head =
      model->options.tie_embeddings ? packed.embedding : pack(model->head_weight(), type);
  return packed;
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
  unpack(layer.o, attention.o_proj->weight);
  unpack(layer.o_bias, attention.o_proj->bias);
  unpack(layer.feed_forward_norm, block.feed_forward_norm->weight);
}

} // namespace moe
