#include "moe/training/lora.h"

#include <cmath>

#include "moe/error.h"
#include "moe/option_checks_internal.h"
#include "moe/training/trainable_rows.h"

namespace moe {
namespace {

bool is_weight_matrix(const std::string& name, const torch::Tensor& parameter) {
  return parameter.dim() >= 2 && !name.ends_with("bias");
}

LoraAdapter new_adapter(const std::string& name, const torch::Tensor& parameter, int64_t rank) {
  const torch::NoGradGuard no_grad;
  auto a_shape = parameter.sizes().vec();
  auto b_shape = a_shape;
  a_shape[a_shape.size() - 2] = rank;
  b_shape.back() = rank;
  const double bound = 1.0 / std::sqrt(static_cast<double>(parameter.size(-1)));
  const auto type = parameter.options().requires_grad(false);
  return {
      name,
      parameter,
      parameter.detach().clone(),
      torch::empty(a_shape, type).uniform_(-bound, bound).requires_grad_(),
      torch::zeros(b_shape, type).requires_grad_()};
}

void add_gradient(const torch::Tensor& parameter, const torch::Tensor& gradient) {
  auto& sum = parameter.mutable_grad();
  sum = sum.defined() ? sum + gradient : gradient;
}

} // namespace

LoraAdapters::LoraAdapters(
    const DecoderLM& model, int64_t rank, double alpha, const std::vector<std::string>& parts)
    : rank_(rank), scale_(alpha / static_cast<double>(rank)) {
  check_at_least(1, "rank", rank);
  check_option(std::isfinite(alpha), "alpha", alpha, "a finite number");
  std::vector<bool> found(parts.size());
  for (auto& entry : model->named_parameters()) {
    bool is_adapted = false;
    for (size_t i = 0; i < parts.size(); ++i) {
      const bool here =
          is_of_part(entry.key(), parts[i]) && is_weight_matrix(entry.key(), entry.value());
      found[i] = found[i] || here;
      is_adapted = is_adapted || here;
    }
    entry.value().requires_grad_(is_adapted);
    if (is_adapted) {
      adapters_.push_back(new_adapter(entry.key(), entry.value(), rank));
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    check(found[i], "lora_targets: the model has no weight matrices in ", parts[i]);
  }
}

void LoraAdapters::apply() const {
  const torch::NoGradGuard no_grad;
  for (const auto& adapter : adapters_) {
    adapter.parameter.copy_(adapter.base);
    adapter.parameter.add_(torch::matmul(adapter.b, adapter.a), scale_);
  }
}

void LoraAdapters::pull_gradients() const {
  const torch::NoGradGuard no_grad;
  for (const auto& adapter : adapters_) {
    const auto gradient = adapter.parameter.grad();
    if (!gradient.defined()) {
      continue;
    }
    add_gradient(adapter.a, torch::matmul(adapter.b.mT(), gradient) * scale_);
    add_gradient(adapter.b, torch::matmul(gradient, adapter.a.mT()) * scale_);
    adapter.parameter.mutable_grad() = torch::Tensor();
  }
}

std::vector<std::pair<std::string, torch::Tensor>> LoraAdapters::parameters() const {
  std::vector<std::pair<std::string, torch::Tensor>> result;
  for (const auto& adapter : adapters_) {
    result.emplace_back("lora_a/" + adapter.name, adapter.a);
    result.emplace_back("lora_b/" + adapter.name, adapter.b);
  }
  return result;
}

} // namespace moe
