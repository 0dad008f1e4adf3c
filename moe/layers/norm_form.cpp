#include "moe/layers/norm_form.h"

namespace moe {

template <>
const OptionTable<NormForm>& option_table<NormForm>() {
  static const OptionTable<NormForm> table = {
      option(
          "norm_epsilon",
          &NormForm::epsilon,
          "Added to the mean square in every norm.",
          {.range = OptionRange::above_0, .support = OptionSupport::plain}),
      option("norm", &NormForm::kind, "Norm of the residual stream: rms, layer or layer_bias."),
  };
  return table;
}

} // namespace moe
