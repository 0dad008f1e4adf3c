#include "moe/kernels/expert_form.h"

namespace moe {

template <>
const OptionTable<ExpertForm>& option_table<ExpertForm>() {
  using Form = ExpertForm;
  using enum OptionRange;
  using enum OptionSupport;
  static const OptionTable<Form> table = {
      option(
          "activation",
          &Form::activation,
          "silu, gelu, gelu_tanh, relu or relu_squared.",
          {.support = plain}),
      option(
          "activation_limit",
          &Form::limit,
          "Limit the activation's input from above and its factor to plus or minus this; 0 for "
          "no limit.",
          {.range = at_least_0, .support = packed}),
      option(
          "activation_sigmoid_scale",
          &Form::sigmoid_scale,
          "silu becomes x * sigmoid(this * x).",
          {.range = finite, .support = packed}),
      option(
          "activation_offset",
          &Form::offset,
          "Added to the factor of the activation in gated networks.",
          {.range = finite, .support = packed}),
      option(
          "gated",
          &Form::gated,
          "Multiply the activation with a second projection (SwiGLU and its kin).",
          {.support = plain}),
  };
  return table;
}

} // namespace moe
