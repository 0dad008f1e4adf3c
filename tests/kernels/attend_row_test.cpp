#include "moe/kernels/attend_row.h"

#include <c10/util/Half.h>

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

std::vector<Float16> halves_of(const std::vector<float>& numbers) {
  std::vector<Float16> halves;
  for (const float number : numbers) {
    halves.push_back({c10::Half(number).x});
  }
  return halves;
}

float as_float(float number) {
  return number;
}
float as_float(Float16 number) {
  return c10::Half(number.bits, c10::Half::from_bits());
}

template <typename Number>
void check_attention(
    int64_t length,
    int64_t dim,
    bool has_sink,
    const std::vector<Number>& keys,
    const std::vector<Number>& values) {
  const auto query = waves(dim, 0.3);
  std::vector<double> weights(static_cast<size_t>(length));
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t i = 0; i < dim; ++i) {
      weights[t] += 0.125 * query[i] * as_float(keys[t * dim + i]);
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
      expected += weights[t] / sum * as_float(values[t * dim + i]);
    }
    CHECK(std::abs(out[i] - expected) < 1e-5);
  }
}

} // namespace

TEST_CASE("from_float16: every number of the type", "[kernels]") {
  for (uint32_t bits = 0; bits <= 0xFFFF; ++bits) {
    const Float16 number{static_cast<uint16_t>(bits)};
    const float expected = as_float(number);
    const float actual = from_float16(number);
    REQUIRE((std::isnan(expected) ? std::isnan(actual) : actual == expected));
    REQUIRE(std::signbit(actual) == std::signbit(expected));
  }
}

TEST_CASE("attend_row: softmax of the scores over the values", "[kernels]") {
  const auto length = GENERATE(int64_t{1}, 2, 7, 33, 300);
  const auto dim = GENERATE(int64_t{2}, 16, 20, 32, 48, 64, 96, 128);
  const bool has_sink = GENERATE(false, true);
  CAPTURE(length, dim, has_sink);
  const auto keys = waves(length * dim, 0.17);
  const auto values = waves(length * dim, 0.11);
  check_attention(length, dim, has_sink, keys, values);
  check_attention(length, dim, has_sink, halves_of(keys), halves_of(values));
}

TEST_CASE("softmax_row: sums to one, far from zero too", "[kernels]") {
  std::vector<float> values{1000.0F, 999.0F, -1000.0F};
  cpu::softmax_row(3, values.data());
  CHECK(std::abs(values[0] - 1.0 / (1.0 + std::exp(-1.0))) < 1e-6);
  CHECK(std::abs(values[0] + values[1] - 1.0) < 1e-6);
  CHECK(values[2] < 1e-30F);
}
