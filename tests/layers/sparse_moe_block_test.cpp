#include "moe/layers/sparse_moe_block.h"

#include <ATen/autocast_mode.h>
#include <torch/nn/modules/container/sequential.h>

#include "moe/training/losses.h"
#include "tests/support/gradient_check.h"
#include "tests/support/module_contract.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// Every expert on every token, masked, weighted and summed: slow and obvious.
torch::Tensor every_expert_on_every_token(
    SparseMoEBlock& block, const torch::Tensor& tokens, const Routing& routing) {
  auto output = torch::zeros_like(tokens);
  for (int64_t e = 0; e < block->options.num_experts(); ++e) {
    const auto computed =
        routing.kept.defined() ? (routing.experts == e) & routing.kept : routing.experts == e;
    const auto chosen = computed.to(routing.weights.scalar_type()); // [T, K]
    const auto weight = (routing.weights * chosen).sum(1, /*keepdim=*/true);
    output = output + weight * block->expert(e)(tokens);
  }
  return output;
}

/// Sends every token to experts 0 to K - 1.
void route_all_to_the_first(SparseMoEBlock& block) {
  const torch::NoGradGuard no_grad;
  block->router->weight.zero_();
  block->router->weight.slice(0, 0, block->options.experts_per_token()).fill_(1.0);
}

} // namespace

TEST_CASE("SparseMoEBlock: equals every expert on every token, masked and summed", "[layers]") {
  const auto [experts, k] =
      GENERATE(table<int64_t, int64_t>({{1, 1}, {4, 1}, {4, 2}, {4, 4}, {16, 3}, {5, 5}}));
  const auto tokens = GENERATE(as<int64_t>(), 0, 1, 7, 33);
  const auto type = GENERATE(torch::kFloat32, torch::kFloat64);
  const bool all_to_one = GENERATE(false, true);
  CAPTURE(experts, k, tokens, type, all_to_one);
  torch::manual_seed(1);
  SparseMoEBlock block(SparseMoEBlockOptions(/*model_dim=*/20, experts)
                           .experts_per_token(k)
                           .expert_dim(24)
                           .initializer_range(0.5)
                           .output_initializer_range(0.5));
  if (all_to_one) {
    route_all_to_the_first(block);
  }
  block->to(type);
  const double tolerance = type == torch::kFloat32 ? 2e-5 : 1e-12;
  auto input = torch::randn({tokens, 20}, torch::TensorOptions(type)).abs();
  input.requires_grad_();
  const auto upstream = torch::randn({tokens, 20}, torch::TensorOptions(type));

  const auto result = block->forward_with_routing(input);
  const auto inputs = [&] {
    std::vector<torch::Tensor> all{input};
    for (const auto& parameter : block->parameters()) {
      all.push_back(parameter);
    }
    return all;
  }();
  const auto gradients = torch::autograd::grad(
      {(result.output * upstream).sum()}, inputs, {}, /*retain_graph=*/true);
  const auto reference = every_expert_on_every_token(block, input, result.routing);
  const auto expected = torch::autograd::grad(
      {(reference * upstream).sum()}, inputs, {}, std::nullopt, false, /*allow_unused=*/true);

  CHECK_THAT(result.output, AllClose(reference, tolerance));
  for (size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    REQUIRE(gradients[i].defined());
    if (k == 1 && i + 1 == inputs.size()) {
      // A single renormalised weight is always 1: the router's gradient is rounding around 0.
      CHECK(gradients[i].abs().sum().item<double>() < 1e-3);
      continue;
    }
    CHECK_THAT(
        gradients[i],
        AllClose(
            expected[i].defined() ? expected[i] : torch::zeros_like(inputs[i]), tolerance));
  }
}

TEST_CASE("SparseMoEBlock: an expert without tokens has a gradient of zeros", "[layers]") {
  torch::manual_seed(2);
  SparseMoEBlock block(SparseMoEBlockOptions(8, 4).experts_per_token(2).expert_dim(16));
  route_all_to_the_first(block);
  block(torch::rand({5, 8})).sum().backward();
  const auto gradient = block->gate_up_proj.grad();
  REQUIRE(gradient.defined());
  CHECK(gradient.slice(0, 0, 2).abs().sum().item<double>() > 0.0);
  CHECK(gradient.slice(0, 2, 4).abs().sum().item<double>() == 0.0);
  CHECK(block->down_proj.grad().slice(0, 2, 4).abs().sum().item<double>() == 0.0);
}

TEST_CASE("SparseMoEBlock: one expert is the plain feed-forward layer", "[layers]") {
  torch::manual_seed(3);
  SparseMoEBlock block(SparseMoEBlockOptions(12, 1).expert_dim(20));
  const auto input = torch::randn({3, 4, 12});
  CHECK_THAT(block(input), AllClose(block->expert(0)(input), 1e-5));
}

TEST_CASE("SparseMoEBlock: the order of tokens does not matter", "[layers]") {
  torch::manual_seed(4);
  SparseMoEBlock block(SparseMoEBlockOptions(12, 6).experts_per_token(2).expert_dim(20));
  const auto input = torch::randn({31, 12});
  const auto order = torch::randperm(31);
  CHECK_THAT(
      block(input.index_select(0, order)), AllClose(block(input).index_select(0, order), 1e-6));
}

TEST_CASE("SparseMoEBlock: the shared expert is added for every token", "[layers]") {
  torch::manual_seed(5);
  const bool gate = GENERATE(false, true);
  SparseMoEBlock block(
      SparseMoEBlockOptions(8, 4).expert_dim(16).shared_expert_dim(10).shared_expert_gate(
          gate));
  const auto input = torch::randn({6, 8});
  const auto result = block->forward_with_routing(input);
  auto shared = block->shared_expert(input);
  if (gate) {
    shared = shared * torch::sigmoid(torch::mm(input, block->shared_expert_gate->weight.t()));
  }
  CHECK_THAT(
      result.output,
      AllClose(every_expert_on_every_token(block, input, result.routing) + shared, 1e-5));
}

TEST_CASE("SparseMoEBlock: what is not kept is not computed", "[layers]") {
  torch::manual_seed(6);
  const bool on_input = GENERATE(false, true);
  const bool experts_choose = GENERATE(false, true);
  auto router = TopKRouterOptions(6, 4).experts_per_token(2).initializer_range(1.0);
  router.form().weights_on_input = on_input;
  if (experts_choose) {
    router.form().selection = RouterSelection::expert_choice;
  } else {
    router.form().capacity_factor = 0.5;
  }
  SparseMoEBlock block(SparseMoEBlockOptions(6, 4)
                           .expert_dim(5)
                           .initializer_range(0.5)
                           .output_initializer_range(0.5)
                           .router(router));
  block->to(torch::kFloat64);
  const auto input = torch::randn({9, 6}, torch::kFloat64).requires_grad_();
  const auto result = block->forward_with_routing(input);
  REQUIRE_FALSE(result.routing.kept.all().item<bool>());
  auto expected = torch::zeros_like(input);
  for (int64_t token = 0; token < 9; ++token) {
    for (int64_t slot = 0; slot < result.routing.experts.size(1); ++slot) {
      if (!result.routing.kept[token][slot].item<bool>()) {
        continue;
      }
      const auto weight = result.routing.weights[token][slot];
      auto expert = block->expert(result.routing.experts[token][slot].item<int64_t>());
      expected[token] +=
          on_input ? expert(input[token] * weight) : expert(input[token]) * weight;
    }
  }
  CHECK_THAT(result.output, AllClose(expected, 1e-9));
  auto inputs = block->parameters();
  inputs.push_back(input);
  CHECK(gradient_error([&] { return block(input).square().sum(); }, inputs) < 1e-6);
}

TEST_CASE("SparseMoEBlock: on the fast path, too, dropped rows are left out", "[layers]") {
  torch::manual_seed(7);
  SparseMoEBlock block(SparseMoEBlockOptions(20, 4)
                           .expert_dim(24)
                           .initializer_range(0.5)
                           .output_initializer_range(0.5)
                           .router(TopKRouterOptions(20, 4).initializer_range(1.0).form(
                               {.capacity_factor = 0.6})));
  const auto input = torch::randn({33, 20}).requires_grad_();
  const auto upstream = torch::randn({33, 20});
  const auto result = block->forward_with_routing(input);
  REQUIRE(dropped_rows(result.routing).item<int64_t>() > 0);
  const auto reference = every_expert_on_every_token(block, input, result.routing);
  CHECK_THAT(result.output, AllClose(reference, 2e-5));
  auto inputs = block->parameters();
  inputs.push_back(input);
  const auto gradients =
      torch::autograd::grad({(result.output * upstream).sum()}, inputs, {}, true);
  const auto expected = torch::autograd::grad({(reference * upstream).sum()}, inputs);
  for (size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(gradients[i], AllClose(expected[i], 2e-5));
  }
}

TEST_CASE("SparseMoEBlock: the dense mixture is the weighted sum of all experts", "[layers]") {
  torch::manual_seed(8);
  SparseMoEBlock block(SparseMoEBlockOptions(6, 5).experts_per_token(5).expert_dim(7));
  const auto input = torch::randn({4, 6});
  const auto scores = torch::softmax(torch::mm(input, block->router->weight.t()), -1);
  auto expected = torch::zeros_like(input);
  for (int64_t e = 0; e < 5; ++e) {
    expected = expected + scores.slice(1, e, e + 1) * block->expert(e)(input);
  }
  CHECK_THAT(block(input), AllClose(expected, 1e-5));
}

TEST_CASE("SparseMoEBlock: routes by token ids of the input's shape", "[layers]") {
  torch::manual_seed(9);
  SparseMoEBlock block(SparseMoEBlockOptions(6, 4).expert_dim(5).router(
      TopKRouterOptions(6, 4).form({.selection = RouterSelection::hash})));
  const auto ids = torch::tensor({{1, 2, 3}, {3, 2, 1}}, torch::kInt64);
  const auto experts =
      block->forward_with_routing(torch::randn({2, 3, 6}), ids).routing.experts.view({2, 3, 2});
  CHECK(torch::equal(experts[0], experts[1].flip({0})));
  REQUIRE_THROWS_WITH(block(torch::randn({2, 3, 6})), ContainsSubstring("needs the token ids"));
}

TEST_CASE("SparseMoEBlock: weights may multiply the experts' inputs", "[layers]") {
  torch::manual_seed(3);
  SparseMoEBlock block(SparseMoEBlockOptions(6, 4)
                           .router(TopKRouterOptions(6, 4).form({.weights_on_input = true}))
                           .expert_dim(5)
                           .initializer_range(0.5)
                           .output_initializer_range(0.5)
                           .output_multiplier(0.5));
  const auto input = torch::randn({7, 6});
  const auto result = block->forward_with_routing(input);
  auto expected = torch::zeros_like(input);
  for (int64_t token = 0; token < 7; ++token) {
    for (int64_t slot = 0; slot < 2; ++slot) {
      const auto weight = result.routing.weights[token][slot];
      auto expert = block->expert(result.routing.experts[token][slot].item<int64_t>());
      expected[token] += expert(input[token] * weight) * 0.5;
    }
  }
  CHECK_THAT(result.output, AllClose(expected, 1e-5));
}

TEST_CASE("SparseMoEBlock: its output may be normalised", "[layers]") {
  torch::manual_seed(4);
  SparseMoEBlock block(SparseMoEBlockOptions(6, 4)
                           .expert_dim(5)
                           .initializer_range(0.5)
                           .output_initializer_range(0.5)
                           .output_norm(RMSNormOptions(6).form({.epsilon = 1e-9})));
  const auto output = block(torch::randn({7, 6}));
  CHECK_THAT(output.square().mean(-1), AllClose(torch::ones({7}), 1e-3));
  CHECK(block->named_parameters().contains("output_norm.weight"));
}

TEST_CASE("SparseMoEBlock: every gradient agrees with central differences", "[layers]") {
  torch::manual_seed(6);
  const bool gated = GENERATE(false, true);
  const bool bias = GENERATE(false, true);
  const auto activation = GENERATE(Activation::silu, Activation::gelu, Activation::gelu_tanh);
  SparseMoEBlock block(SparseMoEBlockOptions(6, 4)
                           .experts_per_token(2)
                           .expert_dim(5)
                           .expert({.activation = activation, .gated = gated})
                           .bias(bias)
                           .shared_expert_dim(3)
                           .shared_expert_gate(true)
                           .initializer_range(0.7)
                           .output_initializer_range(0.7));
  block->to(torch::kFloat64);
  const auto input = torch::randn({7, 6}, torch::kFloat64).requires_grad_();
  const auto upstream = torch::randn({7, 6}, torch::kFloat64);
  auto inputs = block->parameters();
  inputs.push_back(input);
  const auto function = [&] {
    const auto result = block->forward_with_routing(input);
    return (result.output * upstream).sum() + load_balancing_loss(result.routing) +
           router_z_loss(result.routing);
  };
  CHECK(gradient_error(function, inputs) < 1e-6);
}

TEST_CASE("SparseMoEBlock: keeps shape and type of its input", "[layers]") {
  torch::manual_seed(7);
  SparseMoEBlock block(SparseMoEBlockOptions(8, 4).expert_dim(16));
  CHECK(block(torch::randn({2, 3, 5, 8})).sizes() == torch::IntArrayRef({2, 3, 5, 8}));
  CHECK(block(torch::randn({8})).sizes() == torch::IntArrayRef({8}));
  const auto input = torch::randn({9, 8});
  const auto expected = block(input);
  block->to(torch::kBFloat16);
  const auto output = block(input.to(torch::kBFloat16));
  CHECK(output.scalar_type() == torch::kBFloat16);
  CHECK_THAT(output.to(torch::kFloat32), AllClose(expected, 0.03));
}

TEST_CASE("SparseMoEBlock: under autocast experts compute in its type", "[layers]") {
  torch::manual_seed(8);
  // Kernels that round factors alone take even widths, LibTorch's operations any.
  const int64_t width = GENERATE(16, 15);
  SparseMoEBlock block(SparseMoEBlockOptions(8, 4).expert_dim(width));
  const auto input = torch::randn({9, 8});
  const auto expected = block->forward_with_routing(input);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const auto result = block->forward_with_routing(input);
  result.output.sum().backward();
  at::autocast::set_autocast_enabled(at::kCPU, false);
  CHECK_THAT(result.routing.weights, SameBits(expected.routing.weights));
  CHECK(result.output.scalar_type() == (width == 16 ? torch::kFloat32 : torch::kBFloat16));
  const auto output = result.output.to(torch::kFloat32);
  CHECK_THAT(output, AllClose(expected.output, 0.03));
  CHECK_FALSE(torch::equal(output, expected.output));
  CHECK(block->gate_up_proj.grad().scalar_type() == torch::kFloat32);
}

TEST_CASE("SparseMoEBlock: an expert's view shares storage and gradients", "[layers]") {
  torch::manual_seed(9);
  SparseMoEBlock block(SparseMoEBlockOptions(8, 4).expert_dim(16));
  auto expert = block->expert(2);
  CHECK(expert->parameters().empty());
  CHECK(expert->down_proj.data_ptr() == block->down_proj[2].data_ptr());
  expert(torch::randn({3, 8})).sum().backward();
  CHECK(block->down_proj.grad()[2].abs().sum().item<double>() > 0.0);
  CHECK(block->down_proj.grad()[1].abs().sum().item<double>() == 0.0);
  REQUIRE_THROWS_WITH(
      block->expert(4), ContainsSubstring("expert 4") && ContainsSubstring("num_experts = 4"));
}

TEST_CASE("SparseMoEBlock: fits into a Sequential", "[layers]") {
  torch::nn::Sequential network(
      torch::nn::Linear(4, 8), SparseMoEBlock(8, 4), torch::nn::Linear(8, 2));
  CHECK(network->forward(torch::randn({3, 4})).sizes() == torch::IntArrayRef({3, 2}));
}

TEST_CASE("SparseMoEBlock: is a LibTorch module", "[layers]") {
  SECTION("default") {
    check_module_contract(
        SparseMoEBlock(SparseMoEBlockOptions(8, 4).expert_dim(16)),
        {"gate_up_proj", "down_proj", "router.weight"},
        "moe::SparseMoEBlock(model_dim=8, num_experts=4, experts_per_token=2, expert_dim=16");
  }
  SECTION("everything") {
    check_module_contract(
        SparseMoEBlock(SparseMoEBlockOptions(8, 4)
                           .expert_dim(16)
                           .expert({.gated = false})
                           .bias(true)
                           .shared_expert_dim(6)
                           .shared_expert_gate(true)),
        {"up_proj",
         "down_proj",
         "up_bias",
         "down_bias",
         "router.weight",
         "shared_expert.up_proj",
         "shared_expert.down_proj",
         "shared_expert.up_bias",
         "shared_expert.down_bias",
         "shared_expert_gate.weight"},
        "shared_expert_dim=6");
  }
}

TEST_CASE("SparseMoEBlock: initial weights have the stated spread", "[layers]") {
  torch::manual_seed(10);
  SparseMoEBlock block(
      SparseMoEBlockOptions(64, 8).expert_dim(64).output_initializer_range(0.005));
  CHECK_THAT(block->gate_up_proj.std().item<double>(), WithinRel(0.02, 0.03));
  CHECK_THAT(block->down_proj.std().item<double>(), WithinRel(0.005, 0.03));
}

TEST_CASE("SparseMoEBlock: parts that do not fit are named", "[layers]") {
  const auto options = SparseMoEBlockOptions(8, 4).expert_dim(16);
  auto other = options;
  REQUIRE_THROWS_WITH(
      SparseMoEBlock(other.router(TopKRouterOptions(8, 6))),
      ContainsSubstring("num_experts = 4, got 8 and 6"));
  REQUIRE_THROWS_WITH(
      SparseMoEBlock(other.router(TopKRouterOptions(16, 4))),
      ContainsSubstring("model_dim = 8") && ContainsSubstring("got 16 and 4"));
  other = options;
  REQUIRE_THROWS_WITH(
      SparseMoEBlock(other.output_norm(RMSNormOptions(9))),
      ContainsSubstring("output_norm must be of model_dim = 8, got 9"));
  REQUIRE_THROWS_WITH(SparseMoEBlock(-8, 2), ContainsSubstring("model_dim (-8)"));
}
