#include "moe/decoder/recompute.h"

#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/training/autocast_guard.h"
#include "moe/training/losses.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using moe::testing::SameBits;
using moe::testing::tiny_decoder;

namespace {

struct RecomputeCase {
  torch::ScalarType weights = torch::kFloat32;
  torch::ScalarType autocast = torch::kFloat32;
  bool has_documents = false;
};

/// Two batches' worth of gradients of all losses by parameter; the first entries are the losses
/// and the counts of experts.
std::vector<torch::Tensor> two_backward_passes(
    DecoderLM& model, const RecomputeCase& kind, bool recompute) {
  model->zero_grad();
  model->recompute = recompute;
  std::vector<torch::Tensor> results;
  for (int pass = 0; pass < 2; ++pass) {
    torch::manual_seed(pass);
    const AutocastGuard autocast(at::kCPU, kind.autocast);
    const auto ids = torch::randint(23, {2, 21}, torch::kInt64);
    const auto documents = kind.has_documents
                               ? (torch::arange(20) >= 7).to(torch::kInt64).repeat({2, 1})
                               : torch::Tensor();
    const auto output = model->forward(ids.slice(1, 0, 20), documents);
    const auto loss = next_token_loss(output.hidden, model->head_weight(), ids.slice(1, 1)) +
                      load_balancing_loss(output.routing) * 0.3 +
                      router_z_loss(output.routing) * 0.2;
    loss.backward();
    results.push_back(loss.detach());
    results.push_back(expert_counts(output.routing.at(0)));
  }
  for (const auto& parameter : model->parameters()) {
    results.push_back(
        parameter.grad().defined() ? parameter.grad().clone() : torch::zeros({0}));
  }
  return results;
}

} // namespace

TEST_CASE("recompute: the gradients are the same bits", "[decoder]") {
  const auto kind = GENERATE(
      RecomputeCase{},
      RecomputeCase{torch::kFloat64, torch::kFloat32},
      RecomputeCase{torch::kFloat32, torch::kBFloat16},
      RecomputeCase{torch::kFloat32, torch::kFloat32, /*has_documents=*/true});
  torch::manual_seed(1);
  auto options = tiny_decoder();
  options.shared_expert_dim = 6;
  DecoderLM model(options);
  model->to(kind.weights);
  // A layer without gradients of its own passes those of others on.
  const bool is_frozen = GENERATE(false, true);
  for (auto& parameter : model->layers->at<DecoderBlockImpl>(1).attention->parameters()) {
    parameter.requires_grad_(!is_frozen);
  }
  const auto expected = two_backward_passes(model, kind, /*recompute=*/false);
  const auto actual = two_backward_passes(model, kind, /*recompute=*/true);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(actual[i], SameBits(expected[i]));
  }
}

TEST_CASE(
    "recompute: random numbers and dropped rows are those of the first time", "[decoder]") {
  torch::manual_seed(1);
  auto options = tiny_decoder();
  options.dense_layers = {};
  SECTION("noise, jitter and a capacity") {
    options.router.noise = RouterNoise::learned;
    options.router.jitter = 0.2;
    options.router.capacity_factor = 0.7;
  }
  SECTION("sparsemixer") {
    options.router.weighting = RouterWeighting::sparsemixer;
    options.router.sparsemixer_jitter = 1.0;
  }
  SECTION("expert choice") {
    options.router.selection = RouterSelection::expert_choice;
    options.router.sees_future = true;
  }
  SECTION("hash") {
    options.router.selection = RouterSelection::hash;
  }
  DecoderLM model(options);
  const auto expected = two_backward_passes(model, {}, /*recompute=*/false);
  const auto actual = two_backward_passes(model, {}, /*recompute=*/true);
  for (size_t i = 0; i < expected.size(); ++i) {
    CAPTURE(i);
    CHECK_THAT(actual[i], SameBits(expected[i]));
  }
  // What follows draws the same numbers, too.
  const auto ids = torch::randint(23, {2, 9}, torch::kInt64);
  std::vector<torch::Tensor> draws;
  for (const bool recompute : {false, true}) {
    model->recompute = recompute;
    torch::manual_seed(3);
    model->forward(ids).hidden.sum().backward();
    draws.push_back(torch::rand({4}));
  }
  CHECK_THAT(draws[1], SameBits(draws[0]));
}

TEST_CASE(
    "recompute: a function is computed twice, its second derivative is an error", "[decoder]") {
  const auto weight = torch::tensor({2.0, 3.0}).requires_grad_();
  const auto input = torch::tensor({5.0, 7.0}).requires_grad_();
  int calls = 0;
  const auto function = [&](const torch::Tensor& x) {
    ++calls;
    return std::vector<torch::Tensor>{x * weight, x.sum()};
  };
  const auto results = recompute_in_backward(function, input);
  CHECK(calls == 1);
  // One of the results is used by nothing.
  results[0].sum().backward();
  CHECK(calls == 2);
  CHECK_THAT(input.grad(), SameBits(weight.detach()));
  CHECK_THAT(weight.grad(), SameBits(input.detach()));
  // The weight has a gradient even where the input needs none; it is added.
  recompute_in_backward(function, input.detach())[0].sum().backward();
  CHECK_THAT(weight.grad(), SameBits(2 * input.detach()));
  const auto again = recompute_in_backward(function, input);
  REQUIRE_THROWS_WITH(
      torch::autograd::grad({again[0].sum()}, {input}, {}, true, /*create_graph=*/true),
      ContainsSubstring("no second derivatives"));
}

TEST_CASE("recompute: not without a backward pass, and never into a state", "[decoder]") {
  DecoderLM model(tiny_decoder());
  const auto ids = torch::randint(23, {1, 9}, torch::kInt64);
  const torch::NoGradGuard no_grad;
  const auto expected = model->forward(ids).hidden;
  model->recompute = true;
  CHECK_THAT(model->forward(ids).hidden, SameBits(expected));
  auto state = model->make_state(1, 9);
  const torch::AutoGradMode with_graph(true);
  CHECK_THAT(model->forward(ids, state).hidden.detach(), SameBits(expected));
  CHECK(state.length == 9);
}

TEST_CASE("recompute: a block that changed before its backward pass is an error", "[decoder]") {
  DecoderLM model(tiny_decoder());
  model->recompute = true;
  const auto loss = model->forward(torch::randint(23, {1, 9}, torch::kInt64)).hidden.sum();
  SECTION("mode") {
    model->eval();
  }
  SECTION("weights") {
    const torch::NoGradGuard no_grad;
    model->layers->at<DecoderBlockImpl>(0).attention->qkv_proj->weight.mul_(2.0);
  }
  REQUIRE_THROWS_WITH(loss.backward(), ContainsSubstring("changed between its forward"));
}

TEST_CASE("recompute: where all is frozen, nothing is differentiated", "[decoder]") {
  DecoderLM model(tiny_decoder());
  model->recompute = true;
  for (auto& parameter : model->parameters()) {
    parameter.requires_grad_(false);
  }
  CHECK_FALSE(model->forward(torch::randint(23, {1, 9}, torch::kInt64)).hidden.requires_grad());
}
