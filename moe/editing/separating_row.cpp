#include "moe/editing/separating_row.h"

#include <algorithm>

#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr int64_t kChunk = 4096; // inputs that are in float64 at a time
constexpr int kMostSteps = 50;
constexpr double kSmallestStep = 1e-6;

struct Derivatives {
  torch::Tensor gradient; // [D]
  torch::Tensor hessian;  // [D, D]
};

/// Calls body(inputs [t, D], signs, margins, weights) for chunks in float64.
template <class Body>
void for_chunks(const Separation& all, const Body& body) {
  const int64_t count = all.inputs.size(0);
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t length = std::min(kChunk, count - begin);
    body(
        all.inputs.narrow(0, begin, length).to(torch::kFloat64),
        all.signs.narrow(0, begin, length),
        all.margins.narrow(0, begin, length),
        all.weights.narrow(0, begin, length));
  }
}

double objective(const Separation& all, const torch::Tensor& row, double decay) {
  double sum = decay / 2.0 * row.dot(row).item<double>();
  for_chunks(all, [&](const auto& x, const auto& sign, const auto& margin, const auto& weight) {
    const auto short_by = (margin - sign * x.mv(row)) / all.softness;
    sum += weight.dot(torch::softplus(short_by)).template item<double>();
  });
  return sum;
}

Derivatives derivatives(const Separation& all, const torch::Tensor& row, double decay) {
  Derivatives result{row * decay, torch::eye(row.size(0), row.options()) * decay};
  for_chunks(all, [&](const auto& x, const auto& sign, const auto& margin, const auto& weight) {
    const auto wrong = torch::sigmoid((margin - sign * x.mv(row)) / all.softness);
    const auto slope = weight * wrong / all.softness;
    result.gradient -= x.t().mv(sign * slope);
    result.hessian += x.t().mm(x * (slope * (1.0 - wrong) / all.softness).unsqueeze(1));
  });
  return result;
}

} // namespace

torch::Tensor fit_separating_row(const Separation& separation, double ridge) {
  const torch::NoGradGuard no_grad;
  const double scale = separation.inputs.square().mean().item<double>();
  const double decay = std::max(ridge * scale, 1e-12);
  auto row = torch::zeros({separation.inputs.size(1)}, torch::kFloat64);
  double value = objective(separation, row, decay);
  for (int i = 0; i < kMostSteps; ++i) {
    const auto at_row = derivatives(separation, row, decay);
    const auto direction = torch::linalg_solve(at_row.hessian, at_row.gradient);
    double length = 1.0;
    auto next = row - direction;
    double next_value = objective(separation, next, decay);
    while (next_value > value && length > kSmallestStep) {
      length /= 2.0;
      next = row - direction * length;
      next_value = objective(separation, next, decay);
    }
    if (next_value >= value) {
      break;
    }
    row = next;
    const bool done = value - next_value < kSmallestStep * value;
    value = next_value;
    if (done) {
      break;
    }
  }
  return row;
}

} // namespace moe
