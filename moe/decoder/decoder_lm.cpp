#include "moe/decoder/decoder_lm.h"

#include "moe/decoder/recompute.h"

namespace moe {

int64_t DecoderState::bytes() const {
  int64_t sum = 0;
  for (const auto& layer : layers) {
    sum += layer->bytes();
  }
  return sum;
}

DecoderLMImpl::DecoderLMImpl(const DecoderOptions& options_) : options(options_) {
  validate(options);
  reset();
}

void DecoderLMImpl::reset() {
  embedding = register_module(
      "embedding",
      torch::nn::Embedding(torch::nn::EmbeddingOptions(options.vocab_size, options.model_dim)));
  layers = register_module("layers", torch::nn::ModuleList());
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    layers->push_back(DecoderBlock(options, layer));
  }
  final_norm = register_module(
      "final_norm", RMSNorm(RMSNormOptions(options.model_dim).epsilon(options.norm_epsilon)));
  if (!options.tie_embeddings) {
    lm_head = register_module(
        "lm_head",
        torch::nn::Linear(
            torch::nn::LinearOptions(options.model_dim, options.vocab_size).bias(false)));
  }
  reset_parameters();
}

void DecoderLMImpl::reset_parameters() {
  torch::nn::init::normal_(embedding->weight, /*mean=*/0.0, options.initializer_range);
  for (const auto& block : *layers) {
    block->as<DecoderBlockImpl>()->reset_parameters();
  }
  final_norm->reset_parameters();
  if (!options.tie_embeddings) {
    torch::nn::init::normal_(lm_head->weight, /*mean=*/0.0, options.initializer_range);
  }
}

void DecoderLMImpl::pretty_print(std::ostream& stream) const {
  stream << "moe::DecoderLM(vocab_size=" << options.vocab_size
         << ", model_dim=" << options.model_dim << ", num_layers=" << options.num_layers
         << ", num_experts=" << options.num_experts
         << ", experts_per_token=" << options.experts_per_token << ")";
}

DecoderOutput DecoderLMImpl::forward(const torch::Tensor& ids, const torch::Tensor& documents) {
  return run(ids, /*state=*/nullptr, documents);
}

DecoderOutput DecoderLMImpl::forward(const torch::Tensor& ids, DecoderState& state) {
  TORCH_CHECK(
      state.length + ids.size(-1) <= state.capacity,
      "DecoderLM: ",
      state.length + ids.size(-1),
      " tokens do not fit into a state made for ",
      state.capacity);
  auto output = run(ids, &state, /*documents=*/{});
  state.length += ids.size(1);
  return output;
}

DecoderOutput DecoderLMImpl::run(
    const torch::Tensor& ids, DecoderState* state, const torch::Tensor& documents) {
  TORCH_CHECK(
      ids.dim() == 2 && ids.scalar_type() == torch::kInt64,
      "DecoderLM: ids must be [B, S] int64, got ",
      ids.sizes(),
      " ",
      ids.scalar_type());
  const auto table_type = c10::promoteTypes(embedding->weight.scalar_type(), torch::kFloat32);
  const auto starts = documents.defined() ? document_starts(documents) : DocumentStarts{};
  SequenceContext context;
  context.documents = documents.defined() ? &starts : nullptr;
  context.rotary = rotary_table(
      state == nullptr ? 0 : state->length,
      ids.size(1),
      resolved_head_dim(options),
      options.rope_theta,
      torch::TensorOptions().dtype(table_type).device(ids.device()));
  DecoderOutput output;
  auto hidden = embedding(ids); // [B, S, D]
  for (size_t layer = 0; layer < layers->size(); ++layer) {
    context.state = state == nullptr ? nullptr : state->layers[layer].get();
    const auto module = layers->ptr<DecoderBlockImpl>(layer);
    const bool keep_input_only = recompute && state == nullptr && torch::GradMode::is_enabled();
    auto block = keep_input_only ? forward_recomputed(module, hidden, context)
                                 : module->forward(hidden, context);
    hidden = block.hidden;
    if (block.routing) {
      output.routing.push_back(std::move(*block.routing));
    }
  }
  output.hidden = final_norm(hidden);
  return output;
}

torch::Tensor DecoderLMImpl::logits(const torch::Tensor& hidden) {
  return torch::linear(hidden, head_weight());
}

torch::Tensor DecoderLMImpl::head_weight() const {
  return options.tie_embeddings ? embedding->weight : lm_head->weight;
}

DecoderState DecoderLMImpl::make_state(int64_t batch_size, int64_t capacity) {
  DecoderState state;
  state.capacity = capacity;
  for (size_t layer = 0; layer < layers->size(); ++layer) {
    auto& mixer = layers->at<DecoderBlockImpl>(layer).mixer();
    state.layers.push_back(mixer.make_state(batch_size, capacity));
  }
  return state;
}

std::vector<int64_t> moe_layers(const DecoderOptions& options) {
  std::vector<int64_t> layers;
  for (int64_t layer = 0; layer < options.num_layers; ++layer) {
    if (is_moe_layer(options, layer)) {
      layers.push_back(layer);
    }
  }
  return layers;
}

} // namespace moe
