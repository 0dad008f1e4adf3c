#include "moe/layers/expert.h"

#include <cmath>
#include <functional>

#include "moe/layers/rms_norm.h"
#include "tests/support/gradient_check.h"
#include "tests/support/module_contract.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("Expert: SwiGLU by hand", "[layers]") {
  Expert expert(/*model_dim=*/2, /*expert_dim=*/1);
  const torch::NoGradGuard no_grad;
  expert->gate_up_proj.copy_(torch::tensor({{1.0, 0.0}, {0.0, 2.0}}));
  expert->down_proj.copy_(torch::tensor({{3.0}, {-1.0}}));
  // gate = 2, up = 2·5 = 10, hidden = 2·sigmoid(2)·10.
  const double hidden = 20.0 / (1.0 + std::exp(-2.0));
  CHECK_THAT(
      expert(torch::tensor({2.0, 5.0})),
      AllClose(torch::tensor({3.0 * hidden, -hidden}), 1e-6));
}

TEST_CASE("Expert: activations are LibTorch's", "[layers]") {
  torch::manual_seed(0);
  const auto [activation, function] =
      GENERATE(table<Activation, std::function<torch::Tensor(torch::Tensor)>>({
          {Activation::silu, [](torch::Tensor x) { return torch::silu(x); }},
          {Activation::gelu, [](torch::Tensor x) { return torch::gelu(x); }},
          {Activation::gelu_tanh, [](torch::Tensor x) { return torch::gelu(x, "tanh"); }},
          {Activation::relu, [](torch::Tensor x) { return torch::relu(x); }},
          {Activation::relu_squared, [](torch::Tensor x) { return torch::relu(x).square(); }},
      }));
  Expert expert(ExpertOptions(3, 4)
                    .form({.activation = activation, .gated = false})
                    .bias(true)
                    .initializer_range(1.0));
  torch::nn::init::normal_(expert->up_bias);
  torch::nn::init::normal_(expert->down_bias);
  const auto input = torch::randn({5, 3});
  const auto hidden = function(torch::mm(input, expert->up_proj.t()) + expert->up_bias);
  CHECK_THAT(
      expert(input),
      AllClose(torch::mm(hidden, expert->down_proj.t()) + expert->down_bias, 1e-6));
}

TEST_CASE("Expert: limits, scale and offset of the activation", "[layers]") {
  torch::manual_seed(0);
  Expert expert(ExpertOptions(4, 3)
                    .form({.limit = 0.5, .sigmoid_scale = 1.7, .offset = 1.0})
                    .initializer_range(1.0));
  const auto x = torch::randn({6, 4});
  const auto projected = torch::linear(x, expert->gate_up_proj);
  const auto gate = projected.slice(1, 0, 3).clamp_max(0.5);
  const auto up = projected.slice(1, 3).clamp(-0.5, 0.5);
  const auto hidden = gate * torch::sigmoid(1.7 * gate) * (up + 1.0);
  CHECK_THAT(expert(x), AllClose(torch::linear(hidden, expert->down_proj), 1e-6));
}

TEST_CASE("RMSNorm: centred and with a bias it is LibTorch's layer norm", "[layers]") {
  torch::manual_seed(0);
  RMSNorm norm(RMSNormOptions(8).form({.epsilon = 1e-3, .kind = NormKind::layer_bias}));
  {
    const torch::NoGradGuard no_grad;
    norm->weight.normal_();
    norm->bias.normal_();
  }
  const auto input = torch::randn({3, 8});
  CHECK_THAT(
      norm(input),
      AllClose(torch::layer_norm(input, {8}, norm->weight, norm->bias, 1e-3), 1e-5));
}

TEST_CASE("Expert: every gradient agrees with central differences", "[layers]") {
  torch::manual_seed(1);
  Expert expert(
      ExpertOptions(4, 6).bias(true).initializer_range(0.7).output_initializer_range(0.7));
  expert->to(torch::kFloat64);
  const auto input = torch::randn({3, 4}, torch::kFloat64).requires_grad_();
  auto inputs = expert->parameters();
  inputs.push_back(input);
  CHECK(gradient_error([&] { return expert(input).square().sum(); }, inputs) < 1e-6);
}

TEST_CASE("Expert: is a LibTorch module", "[layers]") {
  check_module_contract(
      Expert(ExpertOptions(4, 6).bias(true)),
      {"gate_up_proj", "down_proj", "gate_up_bias", "down_bias"},
      "moe::Expert(model_dim=4, expert_dim=6, activation=silu, gated=true, bias=true)");
}

TEST_CASE("RMSNorm: by the definition, in float32 for bfloat16 input", "[layers]") {
  torch::manual_seed(2);
  RMSNorm norm(RMSNormOptions(8).form({.epsilon = 1e-2}));
  torch::nn::init::normal_(norm->weight);
  const auto input = torch::randn({3, 8});
  const auto expected =
      input / (input.square().mean(-1, /*keepdim=*/true) + 1e-2).sqrt() * norm->weight;
  CHECK_THAT(norm(input), AllClose(expected, 1e-6));
  const auto half = norm(input.to(torch::kBFloat16));
  CHECK(half.scalar_type() == torch::kBFloat16);
  CHECK_THAT(half, AllClose(expected, 1e-2));
}

TEST_CASE("RMSNorm: gradients and module contract", "[layers]") {
  torch::manual_seed(3);
  RMSNorm norm(5);
  check_module_contract(norm, {"weight"}, "moe::RMSNorm(dim=5, epsilon=1e-06)");
  CHECK(norm->weight.eq(1.0).all().item<bool>());
  norm->to(torch::kFloat64);
  const auto input = torch::randn({3, 5}, torch::kFloat64).requires_grad_();
  const auto upstream = torch::randn({3, 5}, torch::kFloat64);
  const auto function = [&] { return (norm(input) * upstream).sum(); };
  CHECK(gradient_error(function, {input, norm->weight}) < 1e-6);
}
