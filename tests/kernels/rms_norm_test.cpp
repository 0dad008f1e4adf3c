#include "moe/kernels/rms_norm.h"

#include <ATen/Parallel.h>

#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"

using moe::testing::AllClose;
using moe::testing::SameBits;

TEST_CASE("rms_norm: one pass equals LibTorch in float64, gradients too", "[kernels]") {
  torch::manual_seed(1);
  const int64_t rows = GENERATE(0, 1, 7, 128, 300);
  const int64_t width = GENERATE(2, 3, 16, 50);
  CAPTURE(rows, width);
  const auto input = torch::randn({rows, 1, width}).requires_grad_();
  const auto weight = torch::randn({width}).requires_grad_();
  const auto output_gradient = torch::randn({rows, 1, width});
  const auto wide_input = input.detach().to(torch::kFloat64).requires_grad_();
  const auto wide_weight = weight.detach().to(torch::kFloat64).requires_grad_();
  const auto expected = torch::rms_norm(wide_input, {width}, wide_weight, 1e-5);
  const auto actual = moe::rms_norm(input, weight, 1e-5);
  CHECK_THAT(actual, AllClose(expected, 1e-6));
  const auto expected_gradients = torch::autograd::grad(
      {expected}, {wide_input, wide_weight}, {output_gradient.to(torch::kFloat64)});
  const auto gradients = torch::autograd::grad({actual}, {input, weight}, {output_gradient});
  CHECK_THAT(gradients[0], AllClose(expected_gradients[0], 1e-5));
  CHECK_THAT(gradients[1], AllClose(expected_gradients[1], 1e-5));
}

TEST_CASE("rms_norm: takes views, whatever their strides", "[kernels]") {
  torch::manual_seed(2);
  const auto input = torch::randn({5, 12, 3}).transpose(1, 2);
  const auto weight = torch::randn({24}).slice(0, 0, 24, 2);
  CHECK_THAT(
      moe::rms_norm(input, weight, 1e-6),
      AllClose(torch::rms_norm(input, {12}, weight, 1e-6), 1e-6));
}

TEST_CASE("rms_norm gives the same bits for any number of threads", "[kernels][threads]") {
  torch::manual_seed(3);
  const auto input = torch::randn({40000, 128}).requires_grad_();
  const auto weight = torch::randn({128}).requires_grad_();
  const auto with_threads = [&](int threads) {
    const int before = at::get_num_threads();
    at::set_num_threads(threads);
    const auto output = moe::rms_norm(input, weight, 1e-6);
    auto results = torch::autograd::grad({output.square().sum()}, {input, weight});
    results.push_back(output);
    at::set_num_threads(before);
    return results;
  };
  const auto one = with_threads(1);
  const auto three = with_threads(3);
  for (size_t i = 0; i < one.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(one[i], SameBits(three[i]));
  }
}
