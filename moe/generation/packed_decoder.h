#pragma once

#include <functional>
#include <string>
#include <vector>

#include "moe/decoder/decoder_lm.h"
#include "moe/kernels/expert_form.h"
#include "moe/kernels/packed_matrix.h"

namespace moe {

/// The values of a vector of weights; null where the model has none.
inline const float* data_or_null(const std::vector<float>& weights) {
  return weights.empty() ? nullptr : weights.data();
}

/// Feed-forward networks of width F, stacked.
struct PackedExperts {
  ExpertForm form;
  int64_t experts = 0; ///< 0: there is none
  int64_t width = 0;   ///< F
  PackedMatrix up;     ///< [E · 2F, D], gate rows of an expert first; ungated [E · F, D]
  PackedMatrix down;   ///< [E · D, F]
  std::vector<float> up_bias;   ///< as many as `up` has rows; empty without biases
  std::vector<float> down_bias; ///< as many as `down` has rows; empty without biases
};

/// The weights of one decoder block. Vectors are empty where the model has none.
struct PackedLayer {
  std::vector<float> attention_norm; ///< [D]
  PackedMatrix qkv;                  ///< [(H + 2 Hkv) · head_dim, D]
  std::vector<float> qkv_bias;
  std::vector<float> q_norm; ///< [head_dim]; [H · head_dim] for a norm of all heads together
  std::vector<float> k_norm; ///< [head_dim] or [Hkv · head_dim]
  std::vector<float> sinks;  ///< [H]
  PackedMatrix o;            ///< [D, H · head_dim]
  std::vector<float> o_bias;
  int64_t sliding_window = 0;           ///< tokens that a token sees; 0 for all
  std::vector<float> feed_forward_norm; ///< [D]
  PackedMatrix router;                  ///< float32 [E, D]; no rows in a dense layer
  std::vector<float> router_bias;       ///< [E]
  std::vector<float> selection_bias;    ///< [E]
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
  std::vector<float> head_bias;  ///< [V]; empty without

  /// Bytes of all weights, and of those that the next token is computed with: K of E experts,
  /// no embedding but one row.
  int64_t bytes() const;
  int64_t active_bytes() const;

  /// Whether keys and values are kept as float16: where weights lose more than these do.
  bool has_half_cache() const {
    return type != WeightType::float32;
  }
};

/// What keeps a model from being packed, such as the option "norm_placement"; empty if nothing
/// does. Packed is the decoder's plain form and what leaves its stages
/// as they are: positions of every kind whose frequencies do not depend on the length,
/// multipliers, windows by layer, norms of all heads together, sinks, biases, limits of the
/// activation, and every score and choice of `can_route_token`.
std::string packing_obstacle(const DecoderOptions& options);

/// A tensor by the name that it has in `DecoderLM`; undefined if there is none.
using TensorLookup = std::function<torch::Tensor(const std::string&)>;

/// What all routers of a packed model do.
TopKRouterOptions packed_router_options(const DecoderOptions& options);

/// Packs the weights of a model that has no `packing_obstacle`, one tensor after the other:
/// what a tensor is made for need not stay in memory. Packed as float32, matrices that are
/// float32 on the CPU are shared; everything else is copied.
PackedDecoder pack_decoder(
    const DecoderOptions& options, const TensorLookup& tensors, WeightType type);
PackedDecoder pack_decoder(const DecoderLM& model, WeightType type);

/// Replaces the weights of a model by what `type` keeps of them, so that the model computes as
/// a session with such weights does. Norms, routers, gates and biases keep all.
void round_weights(DecoderLM& model, WeightType type);

/// Copies the norms and the attention of a layer back into a block, as float32.
void unpack_attention(const PackedLayer& layer, DecoderBlockImpl& block);

} // namespace moe
