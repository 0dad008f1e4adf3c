#include "moe/editing/layer_run.h"

#include <utility>

#include "moe/checkpoint/state_dict.h"
#include "moe/decoder/decoder_lm.h"

namespace moe {
namespace {

using Batches = std::vector<std::vector<torch::Tensor>>; // by text and batch: [B, S, D]

bool is_of_experts(const std::string& name) {
  return name.starts_with("moe.");
}

/// Loads the tensors of layer `layer` that belong to its experts, or all others.
void load_block(
    DecoderBlock& block, int64_t layer, const LazyTensors& tensors, bool of_experts) {
  const std::string prefix = "layers." + std::to_string(layer) + ".";
  for (const auto& item : state_dict(*block)) {
    if (is_of_experts(item.key()) == of_experts) {
      item.value().copy_(tensors.at(prefix + item.key()).make());
    }
  }
}

Batches embed(
    const DecoderOptions& options,
    const LazyTensors& tensors,
    const std::vector<TextSample>& texts) {
  const auto embedding = tensors.at("embedding.weight").make(); // [V, D]
  Batches hidden;
  for (const auto& text : texts) {
    hidden.emplace_back();
    for (const auto& ids : text.batches) {
      hidden.back().push_back(
          torch::embedding(embedding, ids).to(torch::kFloat32) * options.embedding_multiplier);
    }
  }
  return hidden;
}

SequenceContext context_of(const DecoderOptions& options, int64_t layer, int64_t length) {
  SequenceContext context;
  if (!names_layer(options.no_rope_layers, layer)) {
    context.rotary =
        rotary_table(/*first=*/0, length, layer_rotary(options, layer), torch::kFloat32);
  }
  return context;
}

std::vector<std::vector<FeedForwardInput>> attend(
    const DecoderOptions& options, int64_t layer, DecoderBlock& block, Batches hidden) {
  std::vector<std::vector<FeedForwardInput>> result;
  for (auto& text : hidden) {
    result.emplace_back();
    for (auto& batch : text) {
      result.back().push_back(block->attend(batch, context_of(options, layer, batch.size(1))));
      batch.reset();
    }
  }
  return result;
}

std::vector<torch::Tensor> tokens_by_text(
    const std::vector<std::vector<FeedForwardInput>>& inputs, int64_t width) {
  std::vector<torch::Tensor> result;
  for (const auto& text : inputs) {
    std::vector<torch::Tensor> tokens;
    for (const auto& batch : text) {
      tokens.push_back(batch.normed.reshape({-1, width}));
    }
    result.push_back(torch::cat(tokens));
  }
  return result;
}

Batches feed(
    DecoderBlock& block,
    const std::vector<std::vector<FeedForwardInput>>& inputs,
    const std::vector<TextSample>& texts) {
  Batches hidden;
  for (size_t text = 0; text < inputs.size(); ++text) {
    hidden.emplace_back();
    for (size_t batch = 0; batch < inputs[text].size(); ++batch) {
      const auto output = block->feed(inputs[text][batch], texts[text].batches[batch]);
      hidden.back().push_back(output.hidden);
    }
  }
  return hidden;
}

} // namespace

LayerVisit::LayerVisit(
    int64_t layer,
    DecoderBlock block,
    const LazyTensors& tensors,
    std::vector<torch::Tensor> inputs)
    : layer_(layer), block_(std::move(block)), tensors_(tensors), inputs_(std::move(inputs)) {}

SparseMoEBlock LayerVisit::experts() {
  if (!loaded_) {
    load_block(block_, layer_, tensors_, /*of_experts=*/true);
    loaded_ = true;
  }
  return block_->moe;
}

void run_layers(
    const DecoderOptions& options,
    const LazyTensors& tensors,
    const std::vector<TextSample>& texts,
    const std::function<void(LayerVisit&)>& visit) {
  const torch::NoGradGuard no_grad;
  const auto visited = moe_layers(options);
  auto hidden = embed(options, tensors, texts);
  for (int64_t layer = 0; !visited.empty() && layer <= visited.back(); ++layer) {
    DecoderBlock block(options, layer);
    block->eval();
    load_block(block, layer, tensors, /*of_experts=*/false);
    const auto inputs = attend(options, layer, block, std::move(hidden));
    if (is_moe_layer(options, layer)) {
      LayerVisit at_layer(layer, block, tensors, tokens_by_text(inputs, options.model_dim));
      visit(at_layer);
      at_layer.experts();
    }
    if (layer < visited.back()) {
      hidden = feed(block, inputs, texts);
    }
  }
}

} // namespace moe
