#include "moe/kernels/expert_mlp.h"

#include <ATen/autocast_mode.h>

#include "moe/kernels/cpu_expert_mlp.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/kernels/grouped_expert_mlp_internal.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

void check_bias(
    const char* name, const torch::Tensor& bias, int64_t num_experts, int64_t width) {
  TORCH_CHECK(
      !bias.defined() || bias.sizes() == torch::IntArrayRef({num_experts, width}),
      "expert_mlp: ",
      name,
      " must be [",
      num_experts,
      ", ",
      width,
      "], got ",
      bias.sizes());
}

void check_shapes(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form) {
  TORCH_CHECK(
      weights.up.dim() == 3 && weights.down.dim() == 3,
      "expert_mlp: the weights of all experts must be stacked in three dimensions, got up ",
      weights.up.sizes(),
      " and down ",
      weights.down.sizes());
  const auto num_experts = weights.down.size(0);
  const auto model_dim = weights.down.size(1);
  const auto up_width = (form.gated ? 2 : 1) * weights.down.size(2);
  TORCH_CHECK(
      weights.up.sizes() == torch::IntArrayRef({num_experts, up_width, model_dim}),
      "expert_mlp: down ",
      weights.down.sizes(),
      " asks for up [",
      num_experts,
      ", ",
      up_width,
      ", ",
      model_dim,
      "], got ",
      weights.up.sizes());
  check_bias("up_bias", weights.up_bias, num_experts, up_width);
  check_bias("down_bias", weights.down_bias, num_experts, model_dim);
  TORCH_CHECK(
      input.dim() == 2 && input.size(1) == model_dim,
      "expert_mlp: input must be [T, model_dim = ",
      model_dim,
      "], got ",
      input.sizes());
  TORCH_CHECK(
      rows.offsets.numel() == num_experts + 1,
      "expert_mlp: rows are sorted for ",
      rows.offsets.numel() - 1,
      " experts, the weights have ",
      num_experts);
  TORCH_CHECK(
      rows.token_rows.size(0) == input.size(0),
      "expert_mlp: rows are of ",
      rows.token_rows.size(0),
      " tokens, input has ",
      input.size(0));
}

/// Whether autocast asks for products that the cpu path computes.
bool takes_bfloat16(const ExpertWeights& weights) {
  return at::autocast::get_autocast_dtype(at::kCPU) == at::kBFloat16 &&
         weights.down.size(1) % 2 == 0 && weights.down.size(2) % 2 == 0;
}

} // namespace

ExpertPath expert_path(const torch::Tensor& input, const ExpertWeights& weights) {
  const auto is_fit = [](const torch::Tensor& bias) {
    return !bias.defined() || cpu::is_plain_float(bias);
  };
  const bool is_float = cpu::is_plain_float(input) && cpu::is_plain_float(weights.up) &&
                        cpu::is_plain_float(weights.down) && is_fit(weights.up_bias) &&
                        is_fit(weights.down_bias);
  if (is_float && (!at::autocast::is_autocast_enabled(at::kCPU) || takes_bfloat16(weights))) {
    return ExpertPath::cpu;
  }
  return input.is_cuda() && grouped::supports(input, weights) ? ExpertPath::grouped
                                                              : ExpertPath::reference;
}

torch::Tensor expert_mlp(
    const torch::Tensor& input,
    const Dispatch& rows,
    const ExpertWeights& weights,
    const ExpertForm& form) {
  check_shapes(input, rows, weights, form);
  switch (expert_path(input, weights)) {
    case ExpertPath::cpu:
      return cpu::expert_mlp(
          input,
          rows,
          weights,
          form,
          at::autocast::is_autocast_enabled(at::kCPU) ? cpu::Products::bfloat16
                                                      : cpu::Products::float32);
    case ExpertPath::grouped:
      return grouped::expert_mlp(input, rows, weights, form);
    case ExpertPath::reference:
      return expert_mlp_reference(input, rows, weights, form);
  }
  TORCH_CHECK(false, "expert_mlp: no such path");
}

} // namespace moe
