#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "moe/checkpoint/model_folder.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/kernels/packed_matrix.h"

namespace moe {

/// A model that writes: its weights in the form in which tokens are computed fastest, and the
/// keys and values of a few sequences.
///
/// Example:
/// ```
/// auto session = make_inference_session(model, WeightType::int8);
/// session->begin(/*num_sequences=*/1, /*capacity=*/512);
/// std::span<const float> logits = session->prefill(/*sequence=*/0, prompt);  // [V]
/// std::span<const float> next = session->decode(ids);                        // [sequences, V]
/// ```
///
/// A session with float32 weights follows its model: a text that `begin` starts is computed
/// with the weights of that time, so a session can be kept while the model trains. They must
/// not change between `begin` and the last token of the text. Weights of another type are
/// packed when the session is made, and stay what they were; with them keys and values are
/// kept as float16, in half of the memory.
class InferenceSession {
 public:
  virtual ~InferenceSession() = default;

  /// Forgets all sequences and makes room for others of up to `capacity` tokens each, at least
  /// one of both. Throws `c10::Error` if packed float32 weights are to be those of a model that
  /// is no longer float32 on the CPU.
  virtual void begin(int64_t num_sequences, int64_t capacity) = 0;

  /// Takes in tokens of one sequence, at least one. The logits [V] of the token after them,
  /// valid until the next call; they may be overwritten. Throws `c10::Error` before `begin`,
  /// and for a sequence, a number of ids or an id that is not possible, before it takes in
  /// anything.
  virtual std::span<float> prefill(int64_t sequence, std::span<const int32_t> ids) = 0;

  /// Takes in one token per sequence. Logits [sequences, V], as above.
  virtual std::span<float> decode(std::span<const int32_t> ids) = 0;

  /// How tokens are computed, in words, such as "packed float32 weights" or "modules
  /// (norm_placement)".
  virtual std::string description() const = 0;

  /// Bytes of weights, all and those that the next token is computed with.
  virtual int64_t weight_bytes() const = 0;
  virtual int64_t active_weight_bytes() const = 0;

  virtual const DecoderOptions& options() const = 0;

 protected:
  /// What `begin`, `prefill` and `decode` throw for arguments that are not possible.
  /// `num_sequences` is 0 before `begin`.
  static void check_begin(int64_t num_sequences, int64_t capacity);
  void check_prefill(
      size_t num_sequences, int64_t sequence, std::span<const int32_t> ids) const;
  void check_decode(size_t num_sequences, std::span<const int32_t> ids) const;

 private:
  void check_ids(std::span<const int32_t> ids) const;
};

/// Packed weights and a token loop without tensors for a float32 model on the CPU whose form
/// can be packed (`packing_obstacle`); the modules themselves for everything else. Throws
/// `Error` for weights of another type where the model cannot be packed.
std::unique_ptr<InferenceSession> make_inference_session(
    const DecoderLM& model, WeightType weights = WeightType::float32);

/// The same on the CPU for a model that is still on the disk. Weights that are packed into
/// another type than float32 are read one tensor after the other: no more of them than the
/// largest is in memory unpacked.
std::unique_ptr<InferenceSession> open_inference_session(
    const ModelFolder& folder, WeightType weights = WeightType::float32);

} // namespace moe
