#pragma once

#include <memory>
#include <span>
#include <vector>

#include "moe/generation/packed_decoder.h"

namespace moe {

namespace token_loop {
struct Work;
}

/// The keys and values of a sequence in one layer, each [Hkv, capacity, head_dim]: float, or
/// Float16 where `PackedDecoder::has_half_cache`.
struct LayerCache {
  void* keys;
  void* values;
};

/// The next token of one sequence.
struct NextToken {
  int32_t id;
  int64_t position; ///< the number of tokens before it; their keys and values are cached
  int64_t capacity; ///< of the cache
  const LayerCache* layers; ///< one per layer; the token's own keys and values are added
};

/// Computes one token each of a few sequences: no autograd, no tensors, no memory that it does
/// not have already. Threads share the work of each stage of a layer (StageCounters), which
/// changes no bits: every number is computed by one task.
class TokenLoop {
 public:
  /// For up to `max_tokens` sequences at once and positions below `capacity`. `model` must
  /// outlive the loop.
  TokenLoop(const PackedDecoder& model, int64_t max_tokens, int64_t capacity);
  ~TokenLoop();
  TokenLoop(TokenLoop&&) noexcept;

  /// Computes the tokens and writes what they add to the caches. `logits` [tokens, V]; nothing
  /// is computed of them if it is null.
  void run(std::span<const NextToken> tokens, float* logits);

  /// logits [V] of the last hidden state [D] of a sequence, before the final norm.
  void head(const float* hidden, float* logits);

 private:
  std::unique_ptr<token_loop::Work> work_;
};

} // namespace moe
