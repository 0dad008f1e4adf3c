#include "moe/kernels/rms_norm.h"

#include "moe/kernels/cpu_norm.h"
#include "moe/kernels/cpu_tasks.h"
#include "moe/kernels/cpu_tensors.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Rows of a task. It fixes the order in which the weight's gradient is added up.
constexpr int64_t kRows = 128;

int64_t num_row_tasks(int64_t rows) {
  return (rows + kRows - 1) / kRows;
}

class RmsNormNode : public torch::autograd::Function<RmsNormNode> {
 public:
  static torch::Tensor forward(
      AutogradContext* context,
      const torch::Tensor& input,
      const torch::Tensor& weight,
      double epsilon) {
    const auto width = input.size(-1);
    const auto rows = width > 0 ? input.numel() / width : 0;
    auto output = torch::empty_like(input);
    auto roots = torch::empty({rows}, input.options());
    const float* const x = input.const_data_ptr<float>();
    const float* const scale = weight.const_data_ptr<float>();
    float* const y = output.mutable_data_ptr<float>();
    float* const root = roots.mutable_data_ptr<float>();
    cpu::run_tasks(num_row_tasks(rows), /*scratch_size=*/0, [&](int64_t task, float*) {
      const auto first = task * kRows;
      cpu::norm_rows(
          std::min(kRows, rows - first),
          width,
          static_cast<float>(epsilon),
          x + first * width,
          scale,
          y + first * width,
          root + first);
    });
    context->save_for_backward({input, weight, roots});
    return output;
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    TORCH_CHECK(
        !torch::GradMode::is_enabled(),
        "rms_norm: float32 on the CPU has no second derivatives; use float64");
    const auto saved = context->get_saved_variables();
    const auto& input = saved[0];
    const auto gradient = gradients[0].contiguous();
    const auto width = input.size(-1);
    const auto rows = saved[2].numel();
    auto input_gradient = torch::empty_like(input);
    auto partial = torch::zeros({num_row_tasks(rows), width}, input.options());
    const float* const g = gradient.const_data_ptr<float>();
    const float* const x = input.const_data_ptr<float>();
    const float* const scale = saved[1].const_data_ptr<float>();
    const float* const root = saved[2].const_data_ptr<float>();
    float* const dx = input_gradient.mutable_data_ptr<float>();
    float* const dweight = partial.mutable_data_ptr<float>();
    cpu::run_tasks(num_row_tasks(rows), /*scratch_size=*/0, [&](int64_t task, float*) {
      const auto first = task * kRows;
      cpu::norm_rows_backward(
          std::min(kRows, rows - first),
          width,
          g + first * width,
          x + first * width,
          scale,
          root + first,
          dx + first * width,
          dweight + task * width);
    });
    return {input_gradient, partial.sum(0), {}};
  }
};

} // namespace

torch::Tensor rms_norm(
    const torch::Tensor& input, const torch::Tensor& weight, double epsilon) {
  if (cpu::is_plain_float(input) && cpu::is_plain_float(weight)) {
    return RmsNormNode::apply(input.contiguous(), weight.contiguous(), epsilon);
  }
  return torch::rms_norm(input, {weight.size(0)}, weight, epsilon);
}

} // namespace moe
