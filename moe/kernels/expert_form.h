#pragma once

#include <string>
#include <string_view>

namespace moe {

/// The non-linearity between the two projections of an expert.
enum class Activation {
  silu,         ///< x · sigmoid(x); gated with it, an expert is a SwiGLU network
  gelu,         ///< x · Φ(x), exact
  gelu_tanh,    ///< the tanh approximation of gelu
  relu,         ///< max(x, 0)
  relu_squared, ///< max(x, 0)²
};

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

/// The name by which options, flags and configuration files call an activation ("gelu_tanh").
std::string_view activation_name(Activation activation);

/// The inverse of `activation_name`; throws `Error` naming the known ones.
Activation activation_from_name(std::string_view name);

} // namespace moe
