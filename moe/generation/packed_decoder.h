#pragma once

#include <string>
#include <vector>

#include "moe/decoder/decoder_lm.h"
#include "moe/kernels/expert_form.h"
#include "moe/kernels/packed_matrix.h"

namespace moe {

/// Feed-forward networks of width F, stacked.
struct PackedExperts {
  ExpertForm form;
  int64_t experts = 0; ///< 0: there is none
  int64_t width = 0;   ///< F
  PackedMatrix up;     ///< [E · 2F, D], gate rows of an expert first; ungated [E · F, D]
  PackedMatrix down;   ///< [E · D, F]
};

/// The weights of one decoder block. Vectors are empty where the model has none.
struct PackedLayer {
  std::vector<float> attention_norm; ///< [D]
  PackedMatrix qkv;                  ///< [(H + 2 Hkv) · head_dim, D]
  std::vector<float> qkv_bias;
  std::vector<float> q_norm; ///< [head_dim]
  std::vector<float> k_norm; ///< [head_dim]
  PackedMatrix o;            ///< [D, H · head_dim]
  std::vector<float> o_bias;
  std::vector<float> feed_forward_norm; ///< [D]
  PackedMatrix router;                  ///< float32 [E, D]; no rows in a dense layer
  PackedExperts experts;                ///< E experts, or the one network of a dense layer
  PackedExperts shared_expert;
  PackedMatrix shared_expert_gate; ///< float32 [1, D]
};

/// The weights of a decoder-only language model as its token loop reads them.
struct PackedDecoder {
  DecoderOptions options;
  WeightType type = WeightType::float32;
  PackedMatrix embedding; ///< [V, D]
  std::vector<PackedLayer> layers;
  std::vector<float> final_norm; ///< [D]
  PackedMatrix head;             ///< [V, D]

  /// Bytes of all weights, and of those that the next token is computed with: K of E experts,
  /// no embedding but one row.
  int64_t bytes() const;
  int64_t active_bytes() const;
};

/// What keeps a model from being packed, such as the option "expert_bias"; empty if nothing
/// does.
/// Packed is the decoder's plain form on the CPU in float32, and no other.
std::string packing_obstacle(const DecoderLM& model);

/// Packs the weights of a model that has no `packing_obstacle`. In float32 they are shared with
/// the model, otherwise copied.
PackedDecoder pack_decoder(const DecoderLM& model, WeightType type);

/// Replaces the weights of a model by what `type` keeps of them, so that the model computes as
/// a session with such weights does. Norms, routers, gates and biases keep all.
void round_weights(DecoderLM& model, WeightType type);

/// Copies the norms and the attention of a layer back into a block, as float32.
void unpack_attention(const PackedLayer& layer, DecoderBlockImpl& block);

} // namespace moe
