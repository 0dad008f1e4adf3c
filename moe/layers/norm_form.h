#pragma once

#include "moe/option_table.h"

namespace moe {

/// Norms of the residual stream.
enum class NormKind {
  rms,        ///< divided by the root mean square
  layer,      ///< freed of the mean first: layer normalisation
  layer_bias, ///< layer normalisation with a learned bias
};
template <>
inline constexpr std::array<std::string_view, 3> enum_names<NormKind>{
    "rms", "layer", "layer_bias"};

/// How vectors are normalised.
struct NormForm {
  double epsilon = 1e-6; ///< added to the mean square
  NormKind kind = NormKind::rms;

  bool operator==(const NormForm&) const = default;
};

template <>
const OptionTable<NormForm>& option_table<NormForm>();

} // namespace moe
