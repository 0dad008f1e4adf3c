#include "moe/decoder/decoder_lm.h"

#include <torch/nn/functional/loss.h>

#include <algorithm>

#include "moe/decoder/decoder_tensors.h"
#include "moe/decoder/next_token_loss.h"
#include "moe/training/autocast_guard.h"
#include "tests/support/gradient_check.h"
#include "tests/support/module_contract.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

torch::Tensor random_ids(int64_t batch, int64_t length) {
  return torch::randint(0, 23, {batch, length}, torch::kInt64);
}

torch::Tensor all_logits(DecoderLM& model, const torch::Tensor& ids) {
  return model->logits(model->forward(ids).hidden);
}

} // namespace

TEST_CASE("DecoderLM: a token's logits depend on the tokens before it only", "[decoder]") {
  torch::manual_seed(0);
  DecoderLM model(tiny_decoder());
  const auto ids = random_ids(2, 12);
  auto changed = ids.clone();
  changed.slice(1, 8) = 5;
  const auto before = all_logits(model, ids).slice(1, 0, 8);
  CHECK_THAT(all_logits(model, changed).slice(1, 0, 8), AllClose(before, 1e-5));
  CHECK(model->forward(ids).routing.size() == 1);
  CHECK(moe_layers(model->options) == std::vector<int64_t>{1});
}

TEST_CASE("DecoderLM: with a state equals without, for every prompt length", "[decoder]") {
  torch::manual_seed(1);
  const torch::NoGradGuard no_grad;
  auto options = tiny_decoder();
  options.attention.sliding_window = GENERATE(as<int64_t>(), 0, 5);
  DecoderLM model(options);
  const auto ids = random_ids(1, 20);
  const auto expected = all_logits(model, ids);
  for (int64_t prompt = 1; prompt < 20; ++prompt) {
    auto state = model->make_state(1, 20);
    auto logits = model->logits(model->forward(ids.slice(1, 0, prompt), state).hidden);
    std::vector<torch::Tensor> parts{logits};
    for (int64_t i = prompt; i < 20; ++i) {
      parts.push_back(model->logits(model->forward(ids.slice(1, i, i + 1), state).hidden));
    }
    CAPTURE(prompt);
    CHECK_THAT(torch::cat(parts, 1), AllClose(expected, 1e-5));
    CHECK(state.length == 20);
  }
}

TEST_CASE(
    "DecoderLM: routing by hash follows the tokens, with a state as without", "[decoder]") {
  torch::manual_seed(1);
  auto options = tiny_decoder();
  options.dense_layers = {};
  options.router.selection = RouterSelection::hash;
  DecoderLM model(options);
  const torch::NoGradGuard no_grad;
  const auto ids = torch::tensor({{3, 7, 3, 9, 7}}, torch::kInt64);
  const auto routing = model->forward(ids).routing;
  REQUIRE(routing.size() == 2);
  for (const auto& layer : routing) {
    CHECK(torch::equal(layer.experts[0], layer.experts[2]));
    CHECK(torch::equal(layer.experts[1], layer.experts[4]));
  }
  CHECK_FALSE(torch::equal(routing[0].experts, routing[1].experts));
  auto state = model->make_state(1, 5);
  model->forward(ids.slice(1, 0, 3), state);
  const auto output = model->forward(ids.slice(1, 3, 5), state);
  CHECK(torch::equal(output.routing[1].experts, routing[1].experts.slice(0, 3, 5)));
  CHECK_THAT(
      model->logits(output.hidden), AllClose(all_logits(model, ids).slice(1, 3, 5), 1e-5));
}

TEST_CASE("DecoderLM: experts that choose cannot continue a text", "[decoder]") {
  auto options = tiny_decoder();
  options.router.selection = RouterSelection::expert_choice;
  options.router.sees_future = true;
  DecoderLM model(options);
  CHECK(model->forward(random_ids(2, 6)).hidden.sizes() == torch::IntArrayRef({2, 6, 16}));
  auto state = model->make_state(1, 4);
  REQUIRE_THROWS_WITH(
      model->forward(random_ids(1, 2), state),
      ContainsSubstring("expert_choice") && ContainsSubstring("tokens after it"));
}

TEST_CASE("DecoderLM: with a capacity by position, the past does not change", "[decoder]") {
  torch::manual_seed(0);
  auto options = tiny_decoder();
  options.router.capacity_factor = 0.6;
  DecoderLM model(options);
  const auto ids = random_ids(1, 12);
  auto changed = ids.clone();
  changed.slice(1, 8) = 5;
  const auto output = model->forward(ids);
  REQUIRE(dropped_rows(output.routing[0]).item<int64_t>() > 0);
  CHECK_THAT(
      model->forward(changed).hidden.slice(1, 0, 8), AllClose(output.hidden.slice(1, 0, 8)));
}

TEST_CASE("DecoderLM: a full state refuses more tokens", "[decoder]") {
  DecoderLM model(tiny_decoder());
  const torch::NoGradGuard no_grad;
  auto state = model->make_state(1, 4);
  // Two layers, keys and values, two heads of width 4 in float32.
  CHECK(state.bytes() == 2 * 2 * 2 * 4 * 4 * 4);
  model->forward(random_ids(1, 4), state);
  REQUIRE_THROWS_WITH(model->forward(random_ids(1, 1), state), ContainsSubstring("made for 4"));
}

TEST_CASE("DecoderLM: packed documents give what each gives alone", "[decoder]") {
  torch::manual_seed(2);
  DecoderLM model(tiny_decoder());
  const auto ids = random_ids(1, 10);
  const auto documents =
      torch::tensor({0, 0, 0, 0, 1, 1, 1, 1, 1, 1}, torch::kInt64).view({1, 10});
  const auto packed = model->logits(model->forward(ids, documents).hidden);
  CHECK_THAT(packed.slice(1, 0, 4), AllClose(all_logits(model, ids.slice(1, 0, 4)), 1e-5));
  CHECK_THAT(packed.slice(1, 4, 10), AllClose(all_logits(model, ids.slice(1, 4, 10)), 1e-5));
}

TEST_CASE("DecoderLM: parameters are those that checkpoints and counts expect", "[decoder]") {
  auto options = tiny_decoder();
  SECTION("default") {}
  SECTION("tied") {
    options.tie_embeddings = true;
  }
  SECTION("a router with all it may have") {
    options.router.gate = RouterGate::cosine;
    options.router.cosine_dim = 5;
    options.router.bias = true;
    options.router.noise = RouterNoise::learned;
  }
  SECTION("everything") {
    options.attention.bias = true;
    options.expert_bias = true;
    options.expert.gated = false;
    options.shared_expert_dim = 8;
    options.shared_expert_gate = true;
    options.attention.qk_norm = false;
  }
  DecoderLM model(options);
  std::vector<NamedShape> actual;
  int64_t total = 0;
  for (const auto& parameter : model->named_parameters()) {
    actual.push_back({parameter.key(), parameter.value().sizes().vec()});
    total += parameter.value().numel();
  }
  CHECK(total == count_parameters(options).total);
  auto expected = decoder_tensors(options);
  const auto by_name = [](const NamedShape& a, const NamedShape& b) { return a.name < b.name; };
  std::sort(actual.begin(), actual.end(), by_name);
  std::sort(expected.begin(), expected.end(), by_name);
  REQUIRE(actual.size() == expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    CHECK(actual[i].name == expected[i].name);
    CHECK(actual[i].shape == expected[i].shape);
  }
  check_module_contract(
      model, parameter_names(*model), "moe::DecoderLM(vocab_size=23, model_dim=16");
}

TEST_CASE("DecoderLM: weights into the residual stream begin smaller with depth", "[decoder]") {
  torch::manual_seed(3);
  DecoderOptions options;
  options.vocab_size = 500;
  options.model_dim = 128;
  options.num_layers = 8;
  DecoderLM model(options);
  const auto block = model->layers->at<DecoderBlockImpl>(3);
  const auto spread = [](const torch::Tensor& weight) { return weight.std().item<double>(); };
  CHECK_THAT(spread(model->embedding->weight), WithinRel(0.02, 0.03));
  CHECK_THAT(spread(block.attention->qkv_proj->weight), WithinRel(0.02, 0.03));
  CHECK_THAT(spread(block.moe->gate_up_proj), WithinRel(0.02, 0.03));
  CHECK_THAT(spread(block.moe->router->weight), WithinRel(0.02, 0.1));
  CHECK_THAT(spread(block.attention->o_proj->weight), WithinRel(0.02 / 4.0, 0.03));
  CHECK_THAT(spread(block.moe->down_proj), WithinRel(0.02 / 4.0, 0.03));
  CHECK(block.attention_norm->weight.eq(1.0).all().item<bool>());
}

TEST_CASE(
    "DecoderLM: every gradient of the loss agrees with central differences", "[decoder]") {
  torch::manual_seed(4);
  auto options = tiny_decoder();
  options.tie_embeddings = GENERATE(false, true);
  DecoderLM model(options);
  model->to(torch::kFloat64);
  const auto ids = random_ids(2, 7);
  const auto targets = random_ids(2, 7);
  const auto function = [&] {
    return next_token_loss(model->forward(ids).hidden, model->head_weight(), targets);
  };
  CHECK(gradient_error(function, model->parameters(), /*max_elements=*/6) < 1e-5);
}

TEST_CASE("DecoderLM: works in bfloat16", "[decoder]") {
  torch::manual_seed(5);
  DecoderLM model(tiny_decoder());
  const auto ids = random_ids(1, 6);
  const auto expected = all_logits(model, ids);
  model->to(torch::kBFloat16);
  const auto logits = all_logits(model, ids);
  CHECK(logits.scalar_type() == torch::kBFloat16);
  CHECK(torch::isfinite(logits).all().item<bool>());
}

TEST_CASE("DecoderLM: impossible options and inputs are named", "[decoder]") {
  auto options = tiny_decoder();
  options.experts_per_token = 9;
  REQUIRE_THROWS_WITH(DecoderLM(options), ContainsSubstring("experts_per_token: 9"));
  DecoderLM model(tiny_decoder());
  REQUIRE_THROWS_WITH(
      model->forward(torch::zeros({4}, torch::kInt64)), ContainsSubstring("[B, S] int64"));
  REQUIRE_THROWS_WITH(
      model->forward(torch::full({1, 2}, 23)),
      ContainsSubstring("id 23 is not in [0, vocab_size = 23)"));
  REQUIRE_THROWS_WITH(
      model->forward(torch::full({1, 2}, -1)), ContainsSubstring("id -1 is not in [0"));
  const auto documents =
      GENERATE(torch::zeros({2, 6}, torch::kInt64), torch::zeros({2, 5}, torch::kInt32));
  REQUIRE_THROWS_WITH(
      model->forward(random_ids(2, 5), documents),
      ContainsSubstring("documents must be [B, S] int64 like ids [2, 5]"));
  options = tiny_decoder();
  options.num_layers = 1;
  options.dense_layers.clear();
  auto state = DecoderLM(options)->make_state(1, 8);
  REQUIRE_THROWS_WITH(
      model->forward(random_ids(1, 5), state),
      ContainsSubstring("a model with 1 layers, this one has 2"));
}

TEST_CASE("DecoderLM: takes batches without tokens", "[decoder]") {
  DecoderLM model(tiny_decoder());
  CHECK(all_logits(model, random_ids(0, 4)).sizes() == torch::IntArrayRef({0, 4, 23}));
  CHECK(all_logits(model, random_ids(2, 0)).sizes() == torch::IntArrayRef({2, 0, 23}));
}

TEST_CASE("next_token_loss: equals LibTorch's cross-entropy, gradients too", "[decoder]") {
  torch::manual_seed(6);
  const bool masked = GENERATE(false, true);
  const auto options = torch::TensorOptions(torch::kFloat64).requires_grad(true);
  const auto hidden = torch::randn({3, 50, 8}, options); // more rows than one chunk below
  const auto head = torch::randn({19000, 8}, options);
  const auto targets = torch::randint(0, 19000, {3, 50}, torch::kInt64);
  const auto mask = masked ? torch::randint(0, 2, {3, 50}, torch::kFloat32) : torch::Tensor();
  const auto losses = torch::nn::functional::cross_entropy(
      torch::matmul(hidden, head.t()).view({150, 19000}),
      targets.view({150}),
      torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kNone));
  const auto expected = masked ? (losses * mask.view({150})).sum() / mask.sum() : losses.mean();
  const auto actual = next_token_loss(hidden, head, targets, mask);
  CHECK_THAT(actual, AllClose(expected, 1e-10));
  const auto expected_gradients = torch::autograd::grad({expected * 3.0}, {hidden, head});
  const auto actual_gradients = torch::autograd::grad({actual * 3.0}, {hidden, head});
  CHECK_THAT(actual_gradients[0], AllClose(expected_gradients[0], 1e-10));
  CHECK_THAT(actual_gradients[1], AllClose(expected_gradients[1], 1e-10));
  CHECK_THAT(token_losses(hidden, head, targets).view({150}), AllClose(losses, 1e-10));
}

TEST_CASE(
    "next_token_loss: parts of a batch add up with the whole batch's count", "[decoder]") {
  torch::manual_seed(7);
  const auto hidden = torch::randn({4, 5, 8});
  const auto head = torch::randn({11, 8});
  const auto targets = torch::randint(0, 11, {4, 5}, torch::kInt64);
  const auto part = [&](int64_t begin, int64_t end) {
    return next_token_loss(
        hidden.slice(0, begin, end), head, targets.slice(0, begin, end), {}, /*normalizer=*/20);
  };
  CHECK_THAT(part(0, 1) + part(1, 4), AllClose(next_token_loss(hidden, head, targets), 1e-6));
}

TEST_CASE("next_token_loss: multiplies in the type of autocast", "[decoder]") {
  torch::manual_seed(0);
  const auto hidden = torch::randn({2, 20, 16}).requires_grad_();
  const auto head = torch::randn({50, 16}).requires_grad_();
  const auto targets = torch::randint(50, {2, 20}, torch::kInt64);
  const auto loss = [&] {
    const AutocastGuard autocast(at::kCPU, torch::kBFloat16);
    return next_token_loss(hidden, head, targets);
  }();
  const auto rounded = [](const torch::Tensor& tensor) {
    return tensor.detach().to(torch::kBFloat16).to(torch::kFloat64).requires_grad_();
  };
  const auto wide_hidden = rounded(hidden);
  const auto wide_head = rounded(head);
  const auto expected = next_token_loss(wide_hidden, wide_head, targets);
  CHECK_THAT(loss, AllClose(expected, 1e-6));
  CHECK_THAT(next_token_loss(hidden, head, targets), !AllClose(expected, 1e-5));
  const auto gradients = torch::autograd::grad({loss}, {hidden, head});
  const auto wide_gradients = torch::autograd::grad({expected}, {wide_hidden, wide_head});
  for (size_t i = 0; i < gradients.size(); ++i) {
    CAPTURE(i);
    CHECK(gradients[i].scalar_type() == torch::kFloat32);
    CHECK_THAT(gradients[i], AllClose(wide_gradients[i], 4e-3));
  }
}

TEST_CASE("next_token_loss: takes a mask for every target, and no other", "[decoder]") {
  const auto hidden = torch::randn({2, 3, 8});
  const auto head = torch::randn({11, 8});
  const auto targets = torch::zeros({2, 3}, torch::kInt64);
  const auto mask = GENERATE(torch::ones({1}), torch::ones({3, 2}), torch::ones({6}));
  REQUIRE_THROWS_WITH(
      next_token_loss(hidden, head, targets, mask),
      ContainsSubstring("loss_mask must be [B, S] like targets [2, 3]"));
}

TEST_CASE("next_token_loss: may be differentiated again and again, but once", "[decoder]") {
  torch::manual_seed(8);
  const auto hidden = torch::randn({2, 3, 8}).requires_grad_();
  const auto head = torch::randn({11, 8}).requires_grad_();
  const auto loss = next_token_loss(hidden, head, torch::randint(0, 11, {2, 3}, torch::kInt64));
  const auto expected = torch::autograd::grad({loss}, {hidden}, {}, /*retain_graph=*/true)[0];
  for (int pass = 1; pass <= 3; ++pass) {
    loss.backward({}, /*keep_graph=*/true);
    CHECK_THAT(hidden.grad(), AllClose(expected * pass, 1e-6));
  }
  hidden.mutable_grad().zero_();
  loss.backward({}, /*keep_graph=*/true);
  CHECK_THAT(hidden.grad(), SameBits(expected));
  REQUIRE_THROWS_WITH(
      torch::autograd::grad({loss}, {hidden}, {}, true, /*create_graph=*/true),
      ContainsSubstring("no second derivatives"));
}
