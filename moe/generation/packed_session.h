#pragma once

#include <optional>
#include <vector>

#include "moe/decoder/decoder_block.h"
#include "moe/generation/inference_session.h"
#include "moe/generation/packed_feed_forward.h"
#include "moe/generation/token_loop.h"

namespace moe {

/// Computes tokens from packed weights: single ones by the `TokenLoop`, long prompts layer by
/// layer with the decoder's attention and the experts' kernels. Weights of other types than
/// float32 are unpacked while they are used: those of one layer's attention, and a few rows of
/// an expert. With them keys and values are kept as float16.
class PackedSession : public InferenceSession {
 public:
  /// `model` has no `packing_obstacle`. It is kept alive, and followed, for float32 weights
  /// only.
  PackedSession(const DecoderLM& model, WeightType weights);
  /// `packed` is of another type than float32.
  explicit PackedSession(PackedDecoder packed);

  void begin(int64_t num_sequences, int64_t capacity) override;
  std::span<float> prefill(int64_t sequence, std::span<const int32_t> ids) override;
  std::span<float> decode(std::span<const int32_t> ids) override;
  std::string description() const override;
  int64_t weight_bytes() const override;
  int64_t active_weight_bytes() const override;
  const DecoderOptions& options() const override;

 private:
  struct Sequence {
    std::vector<std::unique_ptr<KeyValueCache>> states; // one per layer
    std::vector<LayerCache> caches;                     // their memory
    int64_t length = 0;
  };

  void make_blocks();
  DecoderBlockImpl& attention_block(int64_t layer);
  void prefill_by_blocks(Sequence& sequence, std::span<const int32_t> ids, float* logits);
  NextToken next_token(Sequence& sequence, int32_t id);

  PackedDecoder packed_;
  PackedFeedForward feed_forward_;
  DecoderLM model_{nullptr}; // float32
  // Other types: space for the attention of a layer, by its sliding window.
  std::map<int64_t, DecoderBlock> blocks_;
  std::optional<TokenLoop> loop_;
  std::vector<Sequence> sequences_;
  int64_t capacity_ = 0;
  std::vector<float> logits_; // [sequences, V]
};

} // namespace moe
