#pragma once

#include "moe/option_table.h"

namespace moe {

/// The non-linearity between the two projections of an expert.
enum class Activation {
  silu,         ///< x · sigmoid(x); gated with it, an expert is a SwiGLU network
  gelu,         ///< x · Φ(x), exact
  gelu_tanh,    ///< the tanh approximation of gelu
  relu,         ///< max(x, 0)
  relu_squared, ///< max(x, 0)²
};
template <>
inline constexpr std::array<std::string_view, 5> enum_names<Activation>{
    "silu", "gelu", "gelu_tanh", "relu", "relu_squared"};

/// What an expert computes, apart from its weights:
///
///     gated:   down( activation(gate(x)) · up(x) )
///     ungated: down( activation(up(x)) )
///
/// `limit` and `offset` make of the gated form, with g = gate(x) and u = up(x):
///
///     down( activation(min(g, limit)) · (min(max(u, -limit), limit) + offset) )
struct ExpertForm {
  Activation activation = Activation::silu;
  bool gated = true;
  double limit = 0.0;         ///< 0 for none; without gate it limits u from above
  double sigmoid_scale = 1.0; ///< silu becomes x · sigmoid(scale · x)
  double offset = 0.0;        ///< added to the factor of the activation

  bool operator==(const ExpertForm&) const = default;
};

template <>
const OptionTable<ExpertForm>& option_table<ExpertForm>();

} // namespace moe
