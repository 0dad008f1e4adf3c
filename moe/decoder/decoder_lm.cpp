#include "moe/decoder/decoder_lm.h"

#include <algorithm>
#include <utility>

#include "moe/decoder/recompute.h"

namespace moe {
namespace {

/// On another device LibTorch notices by itself, without the host waiting for it.
void check_in_vocabulary(const torch::Tensor& ids, int64_t vocab_size) {
  if (!ids.is_cpu() || ids.numel() == 0) {
    return;
  }
  const auto [least, most] = torch::aminmax(ids);
  const int64_t wrong =
      least.item<int64_t>() < 0 ? least.item<int64_t>() : most.item<int64_t>();
  TORCH_CHECK(
      wrong >= 0 && wrong < vocab_size,
      "DecoderLM: id ",
      wrong,
      " is not in [0, vocab_size = ",
      vocab_size,
      ")");
}

} // namespace

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
  final_norm = register_module("final_norm", residual_norm(options));
  if (options.head_bias) {
    head_bias = register_parameter("head_bias", torch::empty({options.vocab_size}));
  }
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
  if (options.head_bias) {
    torch::nn::init::zeros_(head_bias);
  }
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

DecoderOutput DecoderLMImpl::trace(const torch::Tensor& ids, const torch::Tensor& documents) {
  return run(ids, /*state=*/nullptr, documents, /*keep_hidden_states=*/true);
}

DecoderOutput DecoderLMImpl::forward(const torch::Tensor& ids, DecoderState& state) {
  const auto obstacle = generation_obstacle(options);
  TORCH_CHECK(obstacle.empty(), "DecoderLM: ", obstacle);
  TORCH_CHECK(
      state.length + ids.size(-1) <= state.capacity,
      "DecoderLM: ",
      state.length + ids.size(-1),
      " tokens do not fit into a state made for ",
      state.capacity);
  if (options.rotary.scaling == RotaryScaling::longrope) {
    return forward_longrope(ids, state);
  }
  auto output = run(ids, &state, /*documents=*/{});
  state.length += ids.size(1);
  return output;
}

// The frequencies of all positions change when the sequence grows beyond the original length:
// then everything is computed anew.
DecoderOutput DecoderLMImpl::forward_longrope(const torch::Tensor& ids, DecoderState& state) {
  const int64_t original = layer_rotary(options, /*layer=*/0).original_length;
  const int64_t length = ids.size(1);
  const int64_t before = state.length;
  state.ids = before == 0 ? ids.clone() : torch::cat({state.ids, ids}, /*dim=*/1);
  if (before == 0 || before > original || before + length <= original) {
    auto output = run(ids, &state, /*documents=*/{});
    state.length += length;
    return output;
  }
  const int64_t batch = ids.size(0);
  state.layers = make_state(batch, state.capacity).layers;
  state.length = 0;
  auto output = run(state.ids, &state, /*documents=*/{});
  state.length = before + length;
  output.hidden = output.hidden.slice(/*dim=*/1, before);
  for (Routing& routing : output.routing) {
    const auto positions = torch::arange(batch * state.length, ids.options())
                               .view({batch, state.length})
                               .slice(/*dim=*/1, before)
                               .reshape({-1});
    routing = select_tokens(routing, positions);
  }
  return output;
}

DecoderOutput DecoderLMImpl::run(
    const torch::Tensor& ids,
    DecoderState* state,
    const torch::Tensor& documents,
    bool keep_hidden_states) {
  TORCH_CHECK(
      ids.dim() == 2 && ids.scalar_type() == torch::kInt64,
      "DecoderLM: ids must be [B, S] int64, got ",
      ids.sizes(),
      " ",
      ids.scalar_type());
  check_in_vocabulary(ids, options.vocab_size);
  TORCH_CHECK(
      !documents.defined() ||
          (documents.sizes() == ids.sizes() && documents.scalar_type() == torch::kInt64),
      "DecoderLM: documents must be [B, S] int64 like ids ",
      ids.sizes(),
      ", got ",
      documents.sizes(),
      " ",
      documents.scalar_type());
  TORCH_CHECK(
      state == nullptr || state->layers.size() == layers->size(),
      "DecoderLM: the state is of a model with ",
      state == nullptr ? 0 : state->layers.size(),
      " layers, this one has ",
      layers->size());
  const auto starts = documents.defined() ? document_starts(documents) : DocumentStarts{};
  const auto type = c10::promoteTypes(embedding->weight.scalar_type(), torch::kFloat32);
  const auto tables = rotary_tables(
      options,
      state == nullptr ? 0 : state->length,
      ids.size(1),
      torch::TensorOptions().dtype(type).device(ids.device()));
  SequenceContext context;
  context.documents = documents.defined() ? &starts : nullptr;
  DecoderOutput output;
  auto hidden = embedding(ids); // [B, S, D]
  if (options.embedding_multiplier != 1.0) {
    hidden = hidden * options.embedding_multiplier;
  }
  for (size_t layer = 0; layer < layers->size(); ++layer) {
    context.rotary = tables[layer];
    context.state = state == nullptr ? nullptr : state->layers[layer].get();
    const auto module = layers->ptr<DecoderBlockImpl>(layer);
    const bool keep_input_only =
        recompute && state == nullptr && !keep_hidden_states && torch::GradMode::is_enabled();
    auto block = keep_input_only ? forward_recomputed(module, hidden, context, ids)
                                 : module->forward(hidden, context, ids);
    if (keep_hidden_states) {
      output.hidden_states.push_back(hidden);
    }
    hidden = block.hidden;
    if (block.routing) {
      output.routing.push_back(std::move(*block.routing));
      if (keep_hidden_states) {
        output.expert_inputs.push_back(block.expert_inputs);
      }
    }
  }
  output.hidden = final_norm(hidden);
  if (keep_hidden_states) {
    output.hidden_states.push_back(output.hidden);
  }
  return output;
}

torch::Tensor DecoderLMImpl::logits(const torch::Tensor& hidden) {
  const auto logits = torch::linear(hidden, head_weight(), head_bias);
  return options.logits_multiplier == 1.0 ? logits : logits * options.logits_multiplier;
}

HeadOperands DecoderLMImpl::head_operands(const torch::Tensor& hidden) const {
  HeadOperands operands{hidden, head_weight()};
  if (head_bias.defined()) {
    operands.rows = torch::constant_pad_nd(hidden, {0, 1}, /*value=*/1.0);
    operands.weight = torch::cat({operands.weight, head_bias.unsqueeze(1)}, /*dim=*/1);
  }
  if (options.logits_multiplier != 1.0) {
    operands.rows = operands.rows * options.logits_multiplier;
  }
  return operands;
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
