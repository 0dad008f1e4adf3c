#include "moe/generation/packed_session.h"

#include "moe/layers/causal_self_attention.h"

namespace moe {
namespace {

// Prompts up to this length take the token loop: a pass through the blocks costs more.
constexpr size_t kShortPrompt = 8;

} // namespace

PackedSession::PackedSession(const DecoderLM& model, WeightType weights)
    : packed_(pack_decoder(model, weights)), feed_forward_(packed_.options) {
  if (weights == WeightType::float32) {
    model_ = model;
  } else {
    make_blocks();
  }
}

PackedSession::PackedSession(PackedDecoder packed)
    : packed_(std::move(packed)), feed_forward_(packed_.options) {
  make_blocks();
}

void PackedSession::make_blocks() {
  auto attention_only = packed_.options;
  attention_only.num_experts = 0;
  attention_only.dense_dim = 1;
  for (int64_t layer = 0; layer < packed_.options.num_layers; ++layer) {
    const int64_t window = packed_.layers[static_cast<size_t>(layer)].sliding_window;
    if (!blocks_.contains(window)) {
      blocks_.emplace(window, DecoderBlock(attention_only, layer));
    }
  }
}

void PackedSession::begin(int64_t num_sequences, int64_t capacity) {
  const torch::InferenceMode inference;
  check_begin(num_sequences, capacity);
  if (!model_.is_empty()) {
    const auto& weight = model_->embedding->weight;
    TORCH_CHECK(
        weight.is_cpu() && weight.scalar_type() == torch::kFloat32,
        "InferenceSession: the weights of the model are now ",
        weight.scalar_type(),
        " on ",
        weight.device(),
        ", no longer float32 on the CPU; make another session");
    // Matrices are views of the model's memory, but vectors are copies.
    packed_ = pack_decoder(model_, WeightType::float32);
  }
  const auto& options = packed_.options;
  const auto type = packed_.has_half_cache() ? torch::kFloat16 : torch::kFloat32;
  const bool same = loop_.has_value() && capacity == capacity_ &&
                    num_sequences == static_cast<int64_t>(sequences_.size());
  sequences_.clear();
  for (int64_t i = 0; i < num_sequences; ++i) {
    auto& sequence = sequences_.emplace_back();
    for (int64_t layer = 0; layer < options.num_layers; ++layer) {
      auto cache = std::make_unique<KeyValueCache>(
          /*batch_size=*/1,
          resolved_num_kv_heads(options),
          capacity,
          resolved_head_dim(options),
          type);
      sequence.caches.push_back({cache->key_memory(), cache->value_memory()});
      sequence.states.push_back(std::move(cache));
    }
  }
  if (!same) {
    loop_.emplace(packed_, num_sequences, capacity);
  }
  capacity_ = capacity;
  logits_.resize(static_cast<size_t>(num_sequences * options.vocab_size));
}

/// A block with the norms and the attention of a layer.
DecoderBlockImpl& PackedSession::attention_block(int64_t layer) {
  if (!model_.is_empty()) {
    return model_->layers->at<DecoderBlockImpl>(static_cast<size_t>(layer));
  }
  const auto& weights = packed_.layers[static_cast<size_t>(layer)];
  auto& block = *blocks_.at(weights.sliding_window);
  unpack_attention(weights, block);
  return block;
}

NextToken PackedSession::next_token(Sequence& sequence, int32_t id) {
  TORCH_CHECK(
      sequence.length < capacity_,
      "InferenceSession: no room for a token after ",
      sequence.length,
      " of ",
      capacity_);
  for (auto& state : sequence.states) {
    state->advance(1);
  }
  return {id, sequence.length++, capacity_, sequence.caches.data()};
}

std::span<float> PackedSession::prefill(int64_t index, std::span<const int32_t> ids) {
  check_prefill(sequences_.size(), index, ids);
  auto& sequence = sequences_[static_cast<size_t>(index)];
  const auto vocab = static_cast<size_t>(packed_.options.vocab_size);
  float* const logits = logits_.data() + static_cast<size_t>(index) * vocab;
  if (ids.size() > kShortPrompt) {
    prefill_by_blocks(sequence, ids, logits);
    return {logits, vocab};
  }
  for (size_t i = 0; i < ids.size(); ++i) {
    const NextToken token = next_token(sequence, ids[i]);
    loop_->run({&token, 1}, i + 1 == ids.size() ? logits : nullptr);
  }
  return {logits, vocab};
}

void PackedSession::prefill_by_blocks(
    Sequence& sequence, std::span<const int32_t> ids, float* logits) {
  const torch::InferenceMode inference;
  const auto length = static_cast<int64_t>(ids.size());
  const int64_t dim = packed_.options.model_dim;
  const auto tables = rotary_tables(
      packed_.options, sequence.length, length, torch::TensorOptions(torch::kFloat32));
  auto hidden = torch::empty({1, length, dim});
  for (int64_t i = 0; i < length; ++i) {
    unpack_rows(packed_.embedding, ids[i], 1, hidden.mutable_data_ptr<float>() + i * dim);
  }
  hidden.mul_(packed_.options.embedding_multiplier);
  SequenceContext context;
  for (size_t layer = 0; layer < tables.size(); ++layer) {
    context.rotary = tables[layer];
    context.state = sequence.states[layer].get();
    const auto input = attention_block(static_cast<int64_t>(layer)).attend(hidden, context);
    const auto output =
        feed_forward_.forward(packed_.layers[layer], input.normed.view({length, dim}));
    hidden = torch::add(input.hidden, output, packed_.options.residual_multiplier);
  }
  sequence.length += length;
  loop_->head(hidden.select(1, -1).contiguous().const_data_ptr<float>(), logits);
}

std::span<float> PackedSession::decode(std::span<const int32_t> ids) {
  check_decode(sequences_.size(), ids);
  std::vector<NextToken> tokens;
  for (size_t i = 0; i < ids.size(); ++i) {
    tokens.push_back(next_token(sequences_[i], ids[i]));
  }
  loop_->run(tokens, logits_.data());
  return {logits_.data(), logits_.size()};
}

std::string PackedSession::description() const {
  return "packed " + std::string(weight_type_name(packed_.type)) + " weights";
}

int64_t PackedSession::weight_bytes() const {
  return packed_.bytes();
}

int64_t PackedSession::active_weight_bytes() const {
  return packed_.active_bytes();
}

const DecoderOptions& PackedSession::options() const {
  return packed_.options;
}

} // namespace moe
