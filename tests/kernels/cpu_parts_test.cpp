#include <cmath>
#include <numeric>
#include <vector>

#include "moe/kernels/cpu_activation.h"
#include "moe/kernels/cpu_row_tiles.h"
#include "moe/kernels/cpu_transpose.h"
#include "tests/support/catch.h"

namespace {

using moe::Activation;
using moe::ExpertForm;

TEST_CASE("Row tiles cover each expert's rows once, in order", "[kernels]") {
  const std::vector<int32_t> counts{0, 1, 16, 17, 127, 128, 129, 160, 161, 0, 300, 1000, 0};
  std::vector<int32_t> offsets{0};
  for (const auto count : counts) {
    offsets.push_back(offsets.back() + count);
  }
  const auto plan = moe::cpu::make_row_tiles(offsets.data(), std::ssize(counts));
  REQUIRE(plan.first_of_expert.size() == offsets.size());
  int64_t lanes = 0;
  for (int64_t e = 0; e < std::ssize(counts); ++e) {
    CAPTURE(e, counts[e]);
    int64_t row = offsets[e];
    for (auto i = plan.first_of_expert[e]; i < plan.first_of_expert[e + 1]; ++i) {
      const auto& tile = plan.tiles[i];
      CHECK(tile.expert == e);
      CHECK(tile.first_row == row);
      CHECK(tile.rows >= 1);
      CHECK(tile.rows <= tile.lanes);
      CHECK(
          tile.lanes <=
          (counts[e] <= moe::cpu::kMaxLanes ? moe::cpu::kMaxLanes : moe::cpu::kUsualLanes));
      CHECK(tile.lanes % 16 == 0);
      CHECK(tile.first_lane == lanes);
      lanes += tile.lanes;
      row += tile.rows;
    }
    CHECK(row == offsets[e + 1]);
    const auto tiles = plan.first_of_expert[e + 1] - plan.first_of_expert[e];
    CHECK((tiles <= 1) == (counts[e] <= moe::cpu::kMaxLanes));
    // No lanes beyond those that fill the last register.
    const auto first = plan.first_of_expert[e];
    const auto expert_lanes =
        first == std::ssize(plan.tiles) ? 0 : lanes - plan.tiles[first].first_lane;
    CHECK(expert_lanes == (counts[e] + 15) / 16 * 16);
  }
  CHECK(plan.num_lanes == lanes);
  REQUIRE(plan.largest_first.size() == plan.tiles.size());
  for (size_t i = 1; i < plan.largest_first.size(); ++i) {
    CHECK(
        plan.tiles[plan.largest_first[i - 1]].lanes >= plan.tiles[plan.largest_first[i]].lanes);
  }
}

TEST_CASE("Transposing works for any shape and leaves the rest alone", "[kernels]") {
  const int64_t rows = GENERATE(1, 3, 4, 16, 17, 35);
  const int64_t width = GENERATE(1, 4, 7, 64);
  CAPTURE(rows, width);
  const int64_t in_stride = width + 2;
  const int64_t out_stride = rows + 3;
  std::vector<float> in(rows * in_stride);
  std::iota(in.begin(), in.end(), 1.0F);
  std::vector<float> out(width * out_stride, -1.0F);
  moe::cpu::transpose({in.data(), in_stride}, rows, width, {out.data(), out_stride});
  for (int64_t column = 0; column < width; ++column) {
    for (int64_t i = 0; i < out_stride; ++i) {
      REQUIRE(out[column * out_stride + i] == (i < rows ? in[i * in_stride + column] : -1.0F));
    }
  }
}

double activate(Activation activation, double x) {
  switch (activation) {
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::relu_squared:
      return x > 0 ? x * x : 0.0;
  }
  return NAN;
}

double slope(Activation activation, double x) {
  constexpr double step = 1e-5;
  return (activate(activation, x + step) - activate(activation, x - step)) / (2 * step);
}

TEST_CASE("The fused activations equal their definitions", "[kernels]") {
  const auto activation = GENERATE(
      Activation::silu,
      Activation::gelu,
      Activation::gelu_tanh,
      Activation::relu,
      Activation::relu_squared);
  const bool gated = GENERATE(true, false);
  CAPTURE(moe::enum_name(activation), gated);
  const ExpertForm form{activation, gated};
  constexpr int64_t width = 50;
  constexpr int64_t lanes = 32;
  constexpr int64_t size = width * lanes;
  std::vector<float> gate(size), up(size), gradient(size), weight(lanes);
  for (int64_t i = 0; i < size; ++i) {
    gate[i] = 30.0F * (static_cast<float>(i) + 0.5F) / size - 15.0F; // -15 to 15, never 0
    up[i] = std::cos(static_cast<float>(i));
    gradient[i] = std::sin(static_cast<float>(i));
    weight[i % lanes] = 0.25F + 0.01F * static_cast<float>(i % lanes);
  }
  std::vector<float> hidden(size), gate_gradient(size), up_gradient(size), weighted(size);
  std::vector<float> weight_gradient(lanes, 1.0F);
  const float* second = gated ? up.data() : nullptr;
  moe::cpu::activation_forward(
      form, width, lanes, {gate.data(), second, weight.data(), hidden.data()});
  moe::cpu::activation_backward(
      form,
      width,
      lanes,
      {gate.data(),
       second,
       weight.data(),
       gradient.data(),
       gate_gradient.data(),
       gated ? up_gradient.data() : nullptr,
       weighted.data(),
       weight_gradient.data()});
  std::vector<double> expected_weight_gradient(lanes, 1.0);
  for (int64_t i = 0; i < size; ++i) {
    CAPTURE(gate[i]);
    const double value = activate(activation, gate[i]);
    const double factor = gated ? up[i] : 1.0;
    const double w = weight[i % lanes];
    // 1e-6 of what is multiplied, as float32 allows; the numerical slope has 1e-8 of its own.
    const auto close = [](double actual, double expected, double scale) {
      return std::abs(actual - expected) <= 1e-6 * (1 + scale);
    };
    REQUIRE(close(hidden[i], w * value * factor, std::abs(gate[i])));
    REQUIRE(close(weighted[i], w * value * factor, std::abs(gate[i])));
    REQUIRE(close(
        gate_gradient[i],
        w * gradient[i] * factor * slope(activation, gate[i]),
        std::abs(gate[i])));
    if (gated) {
      REQUIRE(close(up_gradient[i], w * gradient[i] * value, std::abs(value)));
    }
    expected_weight_gradient[i % lanes] += gradient[i] * value * factor;
  }
  for (int64_t i = 0; i < lanes; ++i) {
    CHECK(
        std::abs(weight_gradient[i] - expected_weight_gradient[i]) <
        1e-4 * (1 + std::abs(expected_weight_gradient[i])));
  }
}

TEST_CASE("The fused activations pass NaN on and survive large values", "[kernels]") {
  const auto activation = GENERATE(
      Activation::silu,
      Activation::gelu,
      Activation::gelu_tanh,
      Activation::relu,
      Activation::relu_squared);
  CAPTURE(moe::enum_name(activation));
  std::vector<float> gate(16, NAN), weight(16, 1.0F), hidden(16);
  gate[1] = 1000.0F;
  gate[2] = -1000.0F;
  moe::cpu::activation_forward(
      {activation, /*gated=*/false},
      1,
      16,
      {gate.data(), nullptr, weight.data(), hidden.data()});
  CHECK(std::isnan(hidden[0]));
  CHECK(hidden[1] == (activation == Activation::relu_squared ? 1e6F : 1000.0F));
  CHECK(std::abs(hidden[2]) < 1e-30F);
}

} // namespace
