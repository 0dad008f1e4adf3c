#include "moe/training/lora.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "moe/checkpoint/model_folder.h"
#include "moe/training/peft_adapter.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

namespace {

TrainerOptions lora_training() {
  auto options = quick_options();
  options.warmup_steps = 0;
  options.lora_rank = 3;
  options.lora_alpha = 4.5;
  options.lora_targets = {"experts", "attention", "router"};
  return options;
}

torch::Tensor logits_of(DecoderLM model) {
  const torch::NoGradGuard no_grad;
  const auto ids = torch::arange(20).view({2, 10}).remainder(23);
  return model->logits(model->forward(ids).hidden);
}

bool is_target(const std::string& name) {
  return name.ends_with("_proj.weight") || name.ends_with(".gate_up_proj") ||
         name.ends_with(".down_proj") || name.ends_with(".router.weight");
}

/// The adapter of parameter `name`.
const LoraAdapter& adapter_of(const LoraAdapters& lora, const std::string& name) {
  for (const auto& adapter : lora.adapters()) {
    if (adapter.name == name) {
      return adapter;
    }
  }
  throw std::out_of_range(name);
}

} // namespace

TEST_CASE(
    "LoraAdapters: the function of the model is unchanged at the beginning", "[training]") {
  torch::manual_seed(0);
  DecoderLM model(tiny_decoder());
  const auto before = logits_of(model);
  const LoraAdapters lora(model, 2, 4.0, {"experts", "attention", "feed_forward"});
  CHECK(lora.scale() == 2.0);
  CHECK(lora.adapters().size() == 2 + 4 + 2);
  lora.apply();
  CHECK_THAT(logits_of(model), SameBits(before));
  const auto& experts = adapter_of(lora, "layers.1.moe.gate_up_proj");
  CHECK(experts.a.sizes() == torch::IntArrayRef({4, 2, 16}));
  CHECK(experts.b.sizes() == torch::IntArrayRef({4, 24, 2}));
  CHECK(experts.a.abs().max().item<double>() <= 0.25); // 1 / sqrt(in)
  CHECK(experts.a.std().item<double>() > 0.1);
  CHECK_THROWS_WITH(
      LoraAdapters(model, 2, 4.0, {"shared_expert"}),
      ContainsSubstring("lora_targets") && ContainsSubstring("shared_expert"));
  for (const int64_t rank : {0, -1}) {
    CHECK_THROWS_WITH(
        LoraAdapters(model, rank, 4.0, {"experts"}),
        ContainsSubstring("rank: " + std::to_string(rank) + " is not possible; at least 1"));
  }
  CHECK_THROWS_WITH(
      LoraAdapters(model, 2, std::nan(""), {"experts"}), ContainsSubstring("alpha: nan"));
}

TEST_CASE("LoraAdapters: gradients of A and B are those of autograd", "[training]") {
  torch::manual_seed(1);
  DecoderLM model(tiny_decoder());
  model->to(torch::kFloat64);
  const LoraAdapters lora(model, 2, 3.0, {"experts", "router"});
  const auto ids = torch::arange(22).view({2, 11}).remainder(23);
  for (const auto& adapter : lora.adapters()) {
    const torch::NoGradGuard no_grad;
    adapter.b.copy_(torch::randn_like(adapter.b) * 0.1);
  }
  lora.apply();
  const auto loss = [&] { return model->forward(ids).hidden.square().mean(); };
  loss().backward();
  lora.pull_gradients();
  for (const auto& adapter : lora.adapters()) {
    CAPTURE(adapter.name);
    CHECK_FALSE(adapter.parameter.grad().defined());
    // The whole chain again for one direction, by central differences.
    for (const auto& factor : {adapter.a, adapter.b}) {
      const auto direction = torch::randn_like(factor);
      const double expected = (factor.grad() * direction).sum().item<double>();
      const torch::NoGradGuard no_grad;
      const auto value = [&](double step) {
        factor.add_(direction, step);
        lora.apply();
        const double result = loss().item<double>();
        factor.add_(direction, -step);
        return result;
      };
      const double difference = (value(1e-5) - value(-1e-5)) / 2e-5;
      CHECK_THAT(difference, WithinRel(expected, 1e-4) || WithinAbs(expected, 1e-9));
    }
  }
}

TEST_CASE("Trainer: with lora_rank only the adapters learn", "[training]") {
  const TrainingSetup setup;
  auto options = lora_training();
  options.recompute = GENERATE(false, true);
  auto model = learning_decoder();
  model.initializer_range = 0.3; // the frozen head must be able to say something
  auto trainer = setup.trainer(model, options);
  StateDict before;
  for (const auto& item : trainer.model()->named_parameters()) {
    before.insert(item.key(), item.value().detach().clone());
  }
  const double first = trainer.step().loss;
  double last = 0.0;
  while (trainer.steps_done() < options.steps) {
    last = trainer.step().loss;
  }
  CHECK(last < first - 0.1);
  for (const auto& item : trainer.model()->named_parameters()) {
    CAPTURE(item.key());
    CHECK(torch::equal(item.value(), before[item.key()]) == !is_target(item.key()));
  }
  for (const auto& adapter : trainer.lora()->adapters()) {
    CAPTURE(adapter.name);
    CHECK_THAT(adapter.base, SameBits(before[adapter.name]));
    const auto change = torch::matmul(adapter.b, adapter.a) * 1.5; // alpha / rank
    CHECK_THAT(adapter.parameter, AllClose(adapter.base + change, 1e-6));
  }
}

TEST_CASE("Trainer: a router without an adapter keeps its selection bias", "[training]") {
  const TrainingSetup setup;
  auto options = lora_training();
  auto model = learning_decoder();
  model.router.selection_bias = true;
  const auto moved = [&] {
    auto trainer = setup.trainer(model, options);
    trainer.step();
    const auto& block = trainer.model()->layers->at<DecoderBlockImpl>(0);
    return block.moe->router->selection_bias.count_nonzero().item<int64_t>() > 0;
  };
  CHECK(moved());
  options.lora_targets = {};
  CHECK_FALSE(moved());
}

TEST_CASE("Trainer: restored, adapters go on bit for bit", "[training]") {
  const TrainingSetup setup;
  const auto options = lora_training();
  auto whole = setup.trainer(learning_decoder(), options);
  auto first = setup.trainer(learning_decoder(), options);
  for (int i = 0; i < 4; ++i) {
    whole.step();
    first.step();
  }
  const auto folder = setup.folder.path();
  save_safetensors(*first.model(), folder / "model.safetensors");
  save_training_state(folder, first.state());
  DecoderLM model(learning_decoder());
  load_safetensors(*model, folder / "model.safetensors");
  Trainer second(model, setup.dataset(), options);
  second.restore(load_training_state(folder));
  for (int i = 0; i < 4; ++i) {
    CHECK(second.step().loss == whole.step().loss);
  }
  const auto expected = whole.model()->named_parameters();
  for (const auto& item : second.model()->named_parameters()) {
    CHECK_THAT(item.value(), SameBits(expected[item.key()]));
  }
}

TEST_CASE(
    "write_peft_adapter: the stored matrices are the change of the weights", "[training]") {
  const TrainingSetup setup;
  auto options = lora_training();
  options.steps = 3;
  auto trainer = setup.trainer(learning_decoder(), options);
  while (trainer.steps_done() < options.steps) {
    trainer.step();
  }
  const auto& lora = *trainer.lora();
  const auto folder = setup.folder.path() / "adapter";
  CHECK(write_peft_adapter(folder, lora, learning_decoder(), "", "base").empty());
  const auto stored = read_state_dict(folder / "adapter_model.safetensors");
  const std::string layer = "base_model.model.model.layers.1.";
  const auto change = [&](const std::string& name) {
    const auto& adapter = adapter_of(lora, name);
    return (adapter.parameter - adapter.base).detach();
  };
  const auto product = [&](const std::string& module) {
    return torch::matmul(
               stored[layer + module + ".lora_B.weight"],
               stored[layer + module + ".lora_A.weight"]) *
           1.5;
  };
  // As PEFT takes stacks apart: einsum("o r e, e r i -> e o i").
  const auto stack = [&](const std::string& module) {
    const auto a = stored[layer + module + ".lora_A.weight"];
    const auto b = stored[layer + module + ".lora_B.weight"];
    return torch::einsum(
               "ore,eri->eoi", {b.reshape({b.size(0), -1, 4}), a.reshape({4, -1, a.size(1)})}) *
           1.5;
  };
  const auto qkv = change("layers.1.attention.qkv_proj.weight"); // 4, 2 and 2 heads of 4
  CHECK_THAT(product("self_attn.q_proj"), AllClose(qkv.slice(0, 0, 16), 1e-4));
  CHECK_THAT(product("self_attn.k_proj"), AllClose(qkv.slice(0, 16, 24), 1e-4));
  CHECK_THAT(product("self_attn.v_proj"), AllClose(qkv.slice(0, 24, 32), 1e-4));
  CHECK_THAT(
      product("self_attn.o_proj"), AllClose(change("layers.1.attention.o_proj.weight"), 1e-4));
  CHECK_THAT(product("mlp.gate"), AllClose(change("layers.1.moe.router.weight"), 1e-4));
  CHECK_THAT(
      stack("mlp.experts.base_layer"), AllClose(change("layers.1.moe.gate_up_proj"), 1e-4));
  CHECK_THAT(stack("mlp.experts"), AllClose(change("layers.1.moe.down_proj"), 1e-4));
  CHECK(stored.size() == 2 * 2 * 7);
}

// For compare_peft.py: a model, adapters, and what the model computes with them.
TEST_CASE("adapters for a comparison", "[.peft]") {
  const char* root = std::getenv("MOE_PEFT_FOLDER");
  REQUIRE(root != nullptr);
  const std::filesystem::path folder = root;
  const TrainingSetup setup;
  auto options = lora_training();
  options.steps = 20;
  auto trainer = setup.trainer(learning_decoder(), options);
  save_model_folder(folder / "base", learning_decoder(), state_dict(*trainer.model()));
  while (trainer.steps_done() < options.steps) {
    trainer.step();
  }
  REQUIRE(write_peft_adapter(
              folder / "adapter",
              *trainer.lora(),
              learning_decoder(),
              "",
              (folder / "base").string())
              .empty());
  const auto ids = torch::arange(20).view({2, 10}).remainder(23);
  StateDict reference;
  reference.insert("input_ids", ids);
  reference.insert("logits", logits_of(trainer.model()));
  write_state_dict(reference, folder / "reference.safetensors");
}
