#include "moe/training/adamw.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "moe/error.h"
#include "moe/libtorch.h"
#include "moe/option_checks_internal.h"
#include "moe/training/adamw_kernel.h"

namespace moe {
namespace {

/// Elements per task: small enough to spread over threads, large enough to stream.
constexpr int64_t kChunk = 1 << 15;

bool is_decayed(const std::string& name, const torch::Tensor& parameter) {
  return parameter.dim() > 1 && !name.ends_with("bias");
}

torch::Tensor zeros_for(const torch::Tensor& parameter) {
  return torch::zeros_like(
      parameter, torch::TensorOptions().dtype(torch::kFloat32).requires_grad(false));
}

bool on_cpu_in_float32(const torch::Tensor& tensor) {
  return tensor.is_cpu() && tensor.scalar_type() == torch::kFloat32 && tensor.is_contiguous();
}

/// Σ gradient², added up chunk by chunk in a fixed order.
double sum_of_squares(const torch::Tensor& gradient) {
  if (!on_cpu_in_float32(gradient)) {
    return gradient.to(torch::kFloat64).square().sum().item<double>();
  }
  const float* values = gradient.const_data_ptr<float>();
  const int64_t size = gradient.numel();
  std::vector<double> sums((size + kChunk - 1) / kChunk);
  at::parallel_for(0, static_cast<int64_t>(sums.size()), 1, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk) {
      const int64_t begin = chunk * kChunk;
      sums[chunk] = squared_sum(values + begin, std::min(kChunk, size - begin));
    }
  });
  double sum = 0.0;
  for (const double part : sums) {
    sum += part;
  }
  return sum;
}

void step_by_kernel(
    AdamW::Slot& slot, const torch::Tensor& gradient, const AdamWStep& constants) {
  float* parameter = slot.parameter.mutable_data_ptr<float>();
  float* exp_avg = slot.exp_avg.mutable_data_ptr<float>();
  float* exp_avg_sq = slot.exp_avg_sq.mutable_data_ptr<float>();
  const float* values = gradient.const_data_ptr<float>();
  at::parallel_for(0, gradient.numel(), kChunk, [&](int64_t begin, int64_t end) {
    adamw_step(
        parameter + begin,
        exp_avg + begin,
        exp_avg_sq + begin,
        values + begin,
        end - begin,
        constants);
  });
  // Operations count what they change by themselves; autograd compares the counts.
  slot.parameter.unsafeGetTensorImpl()->bump_version();
}

void step_by_operations(
    AdamW::Slot& slot, const torch::Tensor& raw_gradient, const AdamWStep& constants) {
  const auto gradient = raw_gradient.to(torch::kFloat32) * constants.gradient_scale;
  slot.exp_avg.lerp_(gradient, 1.0 - constants.beta1);
  slot.exp_avg_sq.mul_(constants.beta2).addcmul_(gradient, gradient, 1.0 - constants.beta2);
  const auto denominator =
      (slot.exp_avg_sq.sqrt() * constants.inverse_sqrt_correction2).add_(constants.epsilon);
  slot.parameter.mul_(constants.keep);
  slot.parameter.sub_(slot.exp_avg / denominator * constants.step_size);
}

std::vector<RowRange> all_rows(const torch::Tensor& parameter) {
  return {{0, parameter.dim() == 0 ? 1 : parameter.size(0)}};
}

void check_rows(
    const std::string& name,
    const torch::Tensor& parameter,
    const std::vector<RowRange>& rows) {
  const int64_t count = all_rows(parameter)[0].end;
  int64_t next = 0;
  for (const auto& [begin, end] : rows) {
    check(
        begin >= next && end >= begin && end <= count,
        "optimizer: rows ",
        begin,
        " to ",
        end - 1,
        " of ",
        name,
        ", which has ",
        count,
        ", are not possible after row ",
        next - 1);
    next = end;
  }
}

/// A view of these rows.
torch::Tensor rows_of(const torch::Tensor& tensor, const RowRange& rows) {
  return tensor.dim() == 0 ? tensor
                           : tensor.narrow(/*dim=*/0, rows.begin, rows.end - rows.begin);
}

void step_rows(
    const AdamW::Slot& slot,
    const torch::Tensor& gradient,
    const RowRange& rows,
    const AdamWStep& constants) {
  AdamW::Slot part = {
      slot.name,
      rows_of(slot.parameter, rows),
      rows_of(slot.exp_avg, rows),
      rows_of(slot.exp_avg_sq, rows),
      slot.lr_ratio,
      slot.weight_decay,
      {}};
  const auto part_gradient = rows_of(gradient, rows);
  if (on_cpu_in_float32(part.parameter) && on_cpu_in_float32(part_gradient)) {
    step_by_kernel(part, part_gradient, constants);
  } else {
    step_by_operations(part, part_gradient, constants);
  }
}

void check_options(const AdamWOptions& options) {
  const auto is_share = [](double value) { return value >= 0.0 && value < 1.0; };
  check_option(is_share(options.beta1), "beta1", options.beta1, "0 to below 1");
  check_option(is_share(options.beta2), "beta2", options.beta2, "0 to below 1");
  check_number_not_negative("epsilon", options.epsilon);
  check_number_not_negative("weight_decay", options.weight_decay);
}

void check_dense(const AdamW::Slot& slot) {
  const auto& gradient = slot.parameter.grad();
  TORCH_CHECK(
      !gradient.defined() || gradient.layout() == torch::kStrided,
      "optimizer: the gradient of ",
      slot.name,
      " is ",
      gradient.layout(),
      "; only dense ones are possible");
}

} // namespace

AdamW::AdamW(
    const std::vector<std::pair<std::string, torch::Tensor>>& parameters,
    const AdamWOptions& options,
    const TrainableRows& trainable,
    const ParameterGroups& groups)
    : options_(options) {
  check_options(options);
  size_t found = 0;
  size_t found_groups = 0;
  for (const auto& [name, parameter] : parameters) {
    const auto entry = trainable.find(name);
    const bool is_restricted = entry != trainable.end();
    found += is_restricted ? 1 : 0;
    const auto group_entry = groups.find(name);
    const bool has_group = group_entry != groups.end();
    found_groups += has_group ? 1 : 0;
    const auto group = has_group ? group_entry->second : ParameterGroup{};
    slots_.push_back(
        {name,
         parameter,
         zeros_for(parameter),
         zeros_for(parameter),
         group.lr_ratio,
         is_decayed(name, parameter) ? options.weight_decay * group.weight_decay_ratio : 0.0,
         is_restricted ? entry->second : all_rows(parameter)});
    check_rows(name, parameter, slots_.back().rows);
  }
  check(
      found == trainable.size(), "optimizer: rows are given of a parameter that is not there");
  check(
      found_groups == groups.size(),
      "optimizer: a group is given of a parameter that is not there");
}

double AdamW::gradient_norm() const {
  double sum = 0.0;
  for (const auto& slot : slots_) {
    check_dense(slot);
    if (!slot.parameter.grad().defined()) {
      continue;
    }
    for (const auto& rows : slot.rows) {
      sum += sum_of_squares(rows_of(slot.parameter.grad().detach(), rows));
    }
  }
  return std::sqrt(sum);
}

void AdamW::step(double lr, double gradient_scale) {
  const torch::NoGradGuard no_grad;
  for (const auto& slot : slots_) {
    check_dense(slot);
  }
  ++steps;
  const auto count = static_cast<double>(steps);
  AdamWStep constants;
  constants.beta1 = static_cast<float>(options_.beta1);
  constants.beta2 = static_cast<float>(options_.beta2);
  constants.epsilon = static_cast<float>(options_.epsilon);
  constants.gradient_scale = static_cast<float>(gradient_scale);
  const double correction1 = 1.0 - std::pow(options_.beta1, count);
  constants.inverse_sqrt_correction2 =
      static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(options_.beta2, count)));
  for (auto& slot : slots_) {
    const auto gradient = slot.parameter.grad();
    if (!gradient.defined()) {
      continue;
    }
    const double slot_lr = lr * slot.lr_ratio;
    constants.step_size = static_cast<float>(slot_lr / correction1);
    constants.keep = static_cast<float>(1.0 - slot_lr * slot.weight_decay);
    for (const auto& rows : slot.rows) {
      step_rows(slot, gradient, rows, constants);
    }
  }
}

void AdamW::clear_gradients() {
  for (auto& slot : slots_) {
    slot.parameter.mutable_grad() = torch::Tensor();
  }
}

} // namespace moe
