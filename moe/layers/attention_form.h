#pragma once

#include <cstdint>

#include "moe/option_table.h"

namespace moe {

/// How queries and keys are normalised.
enum class QKNorm {
  head,       ///< each head by itself, with weights [head_dim]
  full,       ///< all heads together, with weights as wide as the projection
  unweighted, ///< each head by itself, without weights, after the rotary positions
};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<QKNorm>{
    "head", "full", "unweighted"};

/// What attention's output is multiplied with: a function of a projection of the input.
enum class AttentionGate {
  none,
  sigmoid,           ///< one factor for each element of each head
  softplus,          ///< the same, ln(1 + exp(x))
  softplus_per_head, ///< one factor for each head
};
template <>
inline constexpr std::array<std::string_view, 4> enum_names<AttentionGate>{
    "none", "sigmoid", "softplus", "softplus_per_head"};

/// How a layer attends. `attention_options.cpp` says what each field does, in the rows that
/// flags, files and help are made from.
struct AttentionForm {
  int64_t num_heads = 4;    ///< H
  int64_t num_kv_heads = 0; ///< 0: num_heads
  int64_t head_dim = 0;     ///< 0: model_dim / num_heads
  bool qk_norm = true;
  QKNorm qk_norm_kind = QKNorm::head;
  bool qk_norm_after_rope = false;
  bool bias = false;
  bool qkv_bias = false;
  double clip_qkv = 0.0;
  double multiplier = 0.0;
  bool sinks = false;
  AttentionGate gate = AttentionGate::none;
  int64_t sliding_window = 0;
  int64_t chunk = 0;
  double query_growth = 0.0;
  int64_t query_growth_length = 8192;
  int64_t query_latent_dim = 0;
  int64_t key_value_latent_dim = 0;
  int64_t value_head_dim = 0; ///< 0: head_dim in latent attention

  bool operator==(const AttentionForm&) const = default;
};

template <>
const OptionTable<AttentionForm>& option_table<AttentionForm>();

/// Whether keys and values come from a latent vector (multi-head latent attention).
bool has_latent_attention(const AttentionForm& form);

/// The form with every 0 that stands for another width replaced by it.
AttentionForm resolved(const AttentionForm& form, int64_t model_dim);

/// Why there is no such attention, as "option: reason"; empty if there is.
std::string attention_problem(const AttentionForm& form, int64_t model_dim);

} // namespace moe
