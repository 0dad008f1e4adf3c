#include <ATen/ops/_grouped_mm.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include "moe/kernels/activation.h"
#include "moe/kernels/combine_rows_internal.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/grouped_expert_mlp_internal.h"
#include "moe/kernels/saved_form_internal.h"
#include "moe/libtorch.h"

namespace moe::grouped {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

constexpr int64_t kAlignment = 16; // bytes

/// The row behind the last one of each expert: [E].
torch::Tensor ends(const torch::Tensor& offsets) {
  return offsets.slice(/*dim=*/0, /*start=*/1);
}

/// Each row times the matrix of its expert: `rows` [N, A], `matrices` [E, A, B] -> [N, B].
torch::Tensor multiply(
    const torch::Tensor& rows, const torch::Tensor& matrices, const torch::Tensor& offsets) {
  if (rows.size(0) == 0) {
    return rows.new_zeros({0, matrices.size(2)});
  }
  return at::_grouped_mm(rows, matrices, ends(offsets));
}

/// For each expert the product over its rows: `left` [N, A], `right` [N, B] -> [E, A, B].
torch::Tensor multiply_by_expert(
    const torch::Tensor& left, const torch::Tensor& right, const torch::Tensor& offsets) {
  if (left.size(0) == 0) {
    return left.new_zeros({offsets.numel() - 1, left.size(1), right.size(1)});
  }
  // With rows that lie one after the other on both sides, and only then, a group may have any
  // number of them. Of an expert without rows some devices compute nothing, not even zeros.
  return at::_grouped_mm(left.t(), right, ends(offsets))
      .masked_fill_((offsets.diff() == 0).view({-1, 1, 1}), 0);
}

/// For each expert the sum of its rows times their factors: `rows` [N, A], `factors` [N] ->
/// [E, A].
torch::Tensor sum_by_expert(
    const torch::Tensor& rows, const torch::Tensor& factors, const torch::Tensor& offsets) {
  // As many equal columns as the alignment asks for; the products are equal, too.
  const auto columns = factors.to(rows.scalar_type())
                           .unsqueeze(1)
                           .expand({-1, kAlignment / rows.element_size()})
                           .contiguous();
  return multiply_by_expert(columns, rows, offsets).select(/*dim=*/1, /*index=*/0);
}

/// Each row times its factor, rounded once: `rows` [N, A], `factors` [N] -> [N, A].
torch::Tensor scale(const torch::Tensor& rows, const torch::Tensor& factors) {
  auto scaled = torch::empty_like(rows);
  return torch::mul_out(scaled, rows, factors.unsqueeze(1));
}

/// The bias of each row's expert: `bias` [E, A] -> [N, A].
torch::Tensor bias_of_rows(const torch::Tensor& bias, const Dispatch& rows) {
  const auto numbers = torch::arange(rows.row_token.numel(), rows.offsets.options());
  const auto experts = torch::searchsorted(
      ends(rows.offsets), numbers, /*out_int32=*/true, /*right=*/true); // [N]
  return bias.index_select(0, experts);
}

bool is_empty(const torch::Tensor& bias) {
  return bias.numel() == 0;
}

/// P of all rows: [N, 2F or F].
torch::Tensor project(
    const torch::Tensor& inputs, const Dispatch& rows, const ExpertWeights& weights) {
  auto projected = multiply(inputs, weights.up.transpose(1, 2), rows.offsets);
  if (!is_empty(weights.up_bias)) {
    projected += bias_of_rows(weights.up_bias, rows);
  }
  return projected;
}

/// Y of all rows, from activation(P): [N, D].
torch::Tensor project_down(
    const torch::Tensor& hidden, const Dispatch& rows, const ExpertWeights& weights) {
  auto results =
      multiply(scale(hidden, rows.row_weight), weights.down.transpose(1, 2), rows.offsets);
  if (!is_empty(weights.down_bias)) {
    results += scale(bias_of_rows(weights.down_bias, rows), rows.row_weight);
  }
  return results;
}

/// The gradient of the row weights: [N].
torch::Tensor row_weight_gradient(
    const torch::Tensor& hidden,
    const torch::Tensor& hidden_gradient,
    const torch::Tensor& result_gradient,
    const Dispatch& rows,
    const torch::Tensor& down_bias) {
  const auto sum = [&](const torch::Tensor& products) {
    return products.sum(/*dim=*/1, /*keepdim=*/false, rows.row_weight.scalar_type());
  };
  auto gradient = sum(hidden * hidden_gradient);
  if (!is_empty(down_bias)) {
    gradient += sum(bias_of_rows(down_bias, rows) * result_gradient);
  }
  return gradient;
}

class GroupedExpertMlp : public torch::autograd::Function<GroupedExpertMlp> {
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
      const ExpertForm& form) {
    const ExpertWeights weights{up, down, up_bias, down_bias};
    const auto inputs = input.index_select(0, rows.row_token); // [N, D]
    const auto projected = project(inputs, rows, weights);     // [N, 2F or F]
    const auto results = project_down(activate(projected, form), rows, weights);
    context->save_for_backward(
        {input,
         row_weight,
         up,
         down,
         up_bias,
         down_bias,
         rows.row_token,
         rows.offsets,
         rows.token_rows,
         projected});
    save_form(*context, form);
    return combine_rows(results, rows.token_rows);
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(),
        "expert_mlp: this path has no second derivatives; use expert_mlp_reference");
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const auto saved = context->get_saved_variables();
    const auto& input = saved[0];
    const ExpertWeights weights{saved[2], saved[3], saved[4], saved[5]};
    const Dispatch rows{saved[6], saved[1], saved[7], saved[8]};
    const auto& projected = saved[9];
    const auto form = saved_form(*context);
    const auto needs = [&](size_t index) { return context->needs_input_grad(index); };

    const auto result_gradient = gradients[0].index_select(0, rows.row_token); // [N, D]
    const auto hidden = activate(projected, form);                             // [N, F]
    const auto hidden_gradient = multiply(result_gradient, weights.down, rows.offsets);
    torch::Tensor row_weight, down, down_bias;
    if (needs(1)) {
      row_weight = row_weight_gradient(
          hidden, hidden_gradient, result_gradient, rows, weights.down_bias);
    }
    if (needs(3)) {
      down = multiply_by_expert(result_gradient, scale(hidden, rows.row_weight), rows.offsets);
    }
    if (needs(5)) {
      down_bias = sum_by_expert(result_gradient, rows.row_weight, rows.offsets);
    }
    if (!needs(0) && !needs(2) && !needs(4)) {
      return {{}, row_weight, {}, down, {}, down_bias, {}, {}};
    }
    const auto projected_gradient =
        activate_backward(scale(hidden_gradient, rows.row_weight), projected, form);
    torch::Tensor input_gradient, up, up_bias;
    if (needs(0)) {
      input_gradient =
          combine_rows(multiply(projected_gradient, weights.up, rows.offsets), rows.token_rows);
    }
    if (needs(2)) {
      up = multiply_by_expert(
          projected_gradient, input.index_select(0, rows.row_token), rows.offsets);
    }
    if (needs(4)) {
      up_bias =
          sum_by_expert(projected_gradient, torch::ones_like(rows.row_weight), rows.offsets);
    }
    return {input_gradient, row_weight, up, down, up_bias, down_bias, {}, {}};
  }
};

} // namespace

bool supports(const torch::Tensor& input, const ExpertWeights& weights) {
  constexpr int64_t most_experts = 1023;
  const auto is_fit = [&](const torch::Tensor& tensor) {
    return !tensor.defined() ||
           (tensor.device() == input.device() && tensor.scalar_type() == torch::kBFloat16 &&
            tensor.layout() == torch::kStrided);
  };
  const auto is_aligned = [](const torch::Tensor& matrices) {
    const auto address = reinterpret_cast<uintptr_t>(matrices.const_data_ptr());
    return address % kAlignment == 0 &&
           matrices.size(-1) * matrices.element_size() % kAlignment == 0;
  };
  return is_fit(input) && is_fit(weights.up) && is_fit(weights.down) &&
         is_fit(weights.up_bias) && is_fit(weights.down_bias) && is_aligned(weights.up) &&
         is_aligned(weights.down) && weights.down.size(0) <= most_experts;
}

torch::Tensor expert_mlp(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form) {
  // Autocast would widen sums and squares, and the products take one type.
  const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
  return GroupedExpertMlp::apply(
      input,
      rows.row_weight,
      weights.up.contiguous(),
      weights.down.contiguous(),
      cpu::contiguous_or_empty(weights.up_bias, input),
      cpu::contiguous_or_empty(weights.down_bias, input),
      rows,
      form);
}

} // namespace moe::grouped
