#include "moe/editing/separating_row.h"

#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;

namespace {

/// `count` inputs of two kinds that `gap` moves apart along the first dimension.
Separation two_kinds(int64_t count, double gap) {
  torch::manual_seed(0);
  Separation separation;
  separation.signs =
      torch::where(torch::arange(count) % 2 == 0, torch::tensor(1.0, torch::kFloat64), -1.0);
  separation.inputs = torch::randn({count, 5});
  separation.inputs.select(1, 0) += separation.signs * gap;
  separation.margins = torch::rand({count}, torch::kFloat64);
  separation.weights = torch::rand({count}, torch::kFloat64) / count;
  return separation;
}

} // namespace

TEST_CASE("fit_separating_row finds where the gradient is zero", "[editing]") {
  // More inputs than are looked at at a time, and kinds that overlap.
  auto separation = two_kinds(5000, 0.7);
  separation.softness = GENERATE(1.0, 0.3);
  const double ridge = 1e-3;
  const auto row = fit_separating_row(separation, ridge).requires_grad_();
  const auto inputs = separation.inputs.to(torch::kFloat64);
  const auto loss =
      separation.weights.dot(torch::softplus(
          (separation.margins - separation.signs * inputs.mv(row)) / separation.softness)) +
      ridge / 2 * inputs.square().mean() * row.dot(row);
  loss.backward();
  CHECK(row.grad().abs().max().item<double>() < 1e-4);
  CHECK(row[0].item<double>() > 0.5);
}

TEST_CASE("fit_separating_row keeps margins of kinds that are apart", "[editing]") {
  auto separation = two_kinds(400, 6.0);
  separation.margins.fill_(2.0);
  const auto row = fit_separating_row(separation);
  const auto products = separation.signs * separation.inputs.to(torch::kFloat64).mv(row);
  CHECK(products.min().item<double>() > 2.0);
}
