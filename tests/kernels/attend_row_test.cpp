#include "moe/kernels/attend_row.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "moe/kernels/cpu_softmax.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

std::vector<float> waves(int64_t count, double step) {
  std::vector<float> numbers(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    numbers[i] = static_cast<float>(2.0 * std::sin(1.0 + step * static_cast<double>(i * i)));
  }
  return numbers;
}

} // namespace

TEST_CASE("attend_row: softmax of the scores over the values", "[kernels]") {
  const auto length = GENERATE(int64_t{1}, 2, 7, 33, 300);
  const auto dim = GENERATE(int64_t{2}, 16, 32, 48, 64, 96, 128);
  const bool has_sink = GENERATE(false, true);
  CAPTURE(length, dim, has_sink);
  const auto query = waves(dim, 0.3);
  const auto keys = waves(length * dim, 0.17);
  const auto values = waves(length * dim, 0.11);
  std::vector<double> weights(static_cast<size_t>(length));
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t i = 0; i < dim; ++i) {
      weights[t] += 0.125 * query[i] * keys[t * dim + i];
    }
  }
  const float sink = 0.75F;
  const double largest = *std::max_element(weights.begin(), weights.end());
  double sum = has_sink ? std::exp(sink - largest) : 0.0;
  for (double& weight : weights) {
    weight = std::exp(weight - largest);
    sum += weight;
  }
  std::vector<float> scores(static_cast<size_t>(length + 1));
  std::vector<float> out(static_cast<size_t>(dim));
  attend_row(
      length,
      dim,
      0.125F,
      has_sink ? &sink : nullptr,
      query.data(),
      keys.data(),
      values.data(),
      scores.data(),
      out.data());
  for (int64_t i = 0; i < dim; ++i) {
    double expected = 0.0;
    for (int64_t t = 0; t < length; ++t) {
      expected += weights[t] / sum * values[t * dim + i];
    }
    CHECK(std::abs(out[i] - expected) < 1e-5);
  }
}

TEST_CASE("softmax_row: sums to one, far from zero too", "[kernels]") {
  std::vector<float> values{1000.0F, 999.0F, -1000.0F};
  cpu::softmax_row(3, values.data());
  CHECK(std::abs(values[0] - 1.0 / (1.0 + std::exp(-1.0))) < 1e-6);
  CHECK(std::abs(values[0] + values[1] - 1.0) < 1e-6);
  CHECK(values[2] < 1e-30F);
}
