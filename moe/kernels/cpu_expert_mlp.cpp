#include "moe/kernels/cpu_expert_mlp.h"

#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/saved_form_internal.h"
#include "moe/libtorch.h"

namespace moe::cpu {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// The whole expert computation as one node of the graph.
class ExpertMlp : public torch::autograd::Function<ExpertMlp> {
 public:
  static torch::Tensor forward(
      AutogradContext* context,
      const torch::Tensor& input,
      const torch::Tensor& row_weight,
      const torch::Tensor& up,
      const torch::Tensor& down,
      const torch::Tensor& up_bias,
      const torch::Tensor& down_bias,
      const Dispatch& rows,
      const ExpertForm& form,
      Products products) {
    const Dispatch weighted{rows.row_token, row_weight, rows.offsets, rows.token_rows};
    auto result = cpu::forward(
        input,
        weighted,
        {up, down, up_bias, down_bias},
        form,
        products,
        /*keep_preactivations=*/true);
    context->save_for_backward(
        {input,
         row_weight,
         up,
         down,
         rows.row_token,
         rows.offsets,
         rows.token_rows,
         result.preactivations,
         up_bias,
         down_bias});
    save_form(*context, form);
    return result.output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(),
        "expert_mlp: this path has no second derivatives; use expert_mlp_reference or float64");
    const auto saved = context->get_saved_variables();
    const Dispatch rows{saved[4], saved[1], saved[5], saved[6]};
    const auto form = saved_form(*context);
    const auto needs_bias = [&](size_t index, const torch::Tensor& bias) {
      return bias.numel() > 0 && context->needs_input_grad(index);
    };
    const GradientMask mask{
        context->needs_input_grad(0),
        context->needs_input_grad(1),
        context->needs_input_grad(2),
        context->needs_input_grad(3),
        needs_bias(4, saved[8]),
        needs_bias(5, saved[9])};
    auto result = cpu::backward(
        gradients[0].contiguous(),
        saved[0],
        rows,
        {saved[2], saved[3], saved[8], saved[9]},
        form,
        saved[7],
        mask);
    return {
        result.input,
        result.row_weight,
        result.up,
        result.down,
        result.up_bias,
        result.down_bias,
        {},
        {},
        {}};
  }
};

} // namespace

Sizes sizes_of(const at::Tensor& input, const Dispatch& rows, const ExpertWeights& weights) {
  return {
      input.size(0),
      rows.row_token.size(0),
      weights.down.size(0),
      weights.down.size(1),
      weights.down.size(2),
      weights.up.size(1)};
}

at::Tensor expert_mlp(
    const at::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form,
    Products products) {
  const auto x = input.contiguous();
  const Dispatch list{
      rows.row_token.contiguous(),
      rows.row_weight.to(at::kFloat).contiguous(),
      rows.offsets.contiguous(),
      rows.token_rows.contiguous()};
  const ExpertWeights stacked{
      weights.up.contiguous(),
      weights.down.contiguous(),
      contiguous_or_empty(weights.up_bias, x),
      contiguous_or_empty(weights.down_bias, x)};
  const auto learns = [](const torch::Tensor& tensor) { return tensor.requires_grad(); };
  const bool differentiate =
      at::GradMode::is_enabled() &&
      (learns(x) || learns(list.row_weight) || learns(stacked.up) || learns(stacked.down) ||
       learns(stacked.up_bias) || learns(stacked.down_bias));
  if (!differentiate) {
    return forward(x, list, stacked, form, products, /*keep_preactivations=*/false).output;
  }
  return ExpertMlp::apply(
      x,
      list.row_weight,
      stacked.up,
      stacked.down,
      stacked.up_bias,
      stacked.down_bias,
      list,
      form,
      products);
}

} // namespace moe::cpu
