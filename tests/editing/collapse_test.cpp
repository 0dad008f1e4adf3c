#include "moe/editing/collapse.h"

#include "moe/editing/upcycle.h"
#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// A mixture whose router weighs all experts the same, whatever the token.
DecoderLM even_mixture(DecoderOptions options) {
  options.experts_per_token = options.num_experts;
  auto model = random_model(options);
  const torch::NoGradGuard no_grad;
  for (const int64_t layer : moe_layers(options)) {
    model->layers->ptr<DecoderBlockImpl>(static_cast<size_t>(layer))
        ->moe->router->weight.zero_();
  }
  return model;
}

} // namespace

TEST_CASE("collapse by concatenation computes an even mixture exactly", "[editing]") {
  auto options = tiny_decoder(); // layer 0 is dense and narrower than what layer 1 becomes
  const std::string form = GENERATE("plain", "ungated", "bias", "shared", "scaled");
  CAPTURE(form);
  options.expert.gated = form != "ungated";
  options.expert_bias = form == "bias";
  options.shared_expert_dim = form == "shared" ? 10 : 0;
  options.router.routed_scaling_factor = form == "scaled" ? 1.5 : 1.0;
  options.moe_output_multiplier = form == "scaled" ? 0.7 : 1.0;
  const TemporaryFolder folder;
  auto mixture = even_mixture(options);
  const auto source = save(folder.path() / "mixture", mixture);
  const bool measured = GENERATE(false, true);
  const auto texts = measured ? std::vector<TextSample>{text_between("text", 0, 23)}
                              : std::vector<TextSample>{};
  const auto edited = collapse(source, {.method = "concatenate"}, texts);
  auto dense = write_and_load(folder.path() / "dense", edited, source);
  CHECK(dense->options.num_experts == 0);
  CHECK(dense->options.dense_dim == 48 + options.shared_expert_dim);
  const auto ids = ids_between(0, 23);
  CHECK_THAT(model_logits(dense, ids), AllClose(model_logits(mixture, ids), 1e-5));
}

TEST_CASE("collapse by averages undoes upcycling", "[editing]") {
  auto options = tiny_decoder();
  options.num_experts = 0;
  options.dense_layers.clear();
  const TemporaryFolder folder;
  auto dense = random_model(options);
  const auto before = save(folder.path() / "dense", dense);
  save_edited_model(folder.path() / "mixture", upcycle(before, {}), before);
  const ModelFolder mixture(folder.path() / "mixture");
  auto again = write_and_load(folder.path() / "again", collapse(mixture, {}), mixture);
  CHECK(ModelFolder(folder.path() / "again").family() == "qwen3");
  const auto ids = ids_between(0, 23);
  CHECK_THAT(model_logits(again, ids), AllClose(model_logits(dense, ids), 1e-5));
}

TEST_CASE("collapse weighs experts as it is told", "[editing]") {
  const TemporaryFolder folder;
  const auto options = tiny_decoder();
  auto mixture = random_model(options);
  const auto source = save(folder.path() / "mixture", mixture);
  const auto edited = collapse(source, {.weights = {0.0, 0.0, 1.0, 3.0}});
  auto dense = write_and_load(folder.path() / "dense", edited, source);
  const auto block = mixture->layers->ptr<DecoderBlockImpl>(1)->moe;
  const auto network = dense->layers->ptr<DecoderBlockImpl>(1)->feed_forward;
  const auto expected = block->down_proj[2] * 0.25 + block->down_proj[3] * 0.75; // [D, 12]
  CHECK_THAT(network->down_proj.slice(1, 0, 12), AllClose(expected, 1e-6));
  CHECK(network->down_proj.slice(1, 12).abs().max().item<double>() == 0.0);
}

TEST_CASE("collapse repeats itself byte for byte", "[editing]") {
  const std::string method = GENERATE("average", "concatenate");
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "mixture", random_model(tiny_decoder()));
  for (const auto* name : {"a", "b"}) {
    const auto edited = collapse(source, {.method = method}, {text_between("text", 0, 23)});
    save_edited_model(folder.path() / name, edited, source);
  }
  const bool same = folder.read("a/model.safetensors") == folder.read("b/model.safetensors");
  CHECK(same);
}

TEST_CASE("collapse refuses what a dense network cannot be", "[editing]") {
  const TemporaryFolder folder;
  int count = 0;
  const auto refuses = [&](const std::function<void(DecoderOptions&)>& change,
                           const CollapseOptions& options,
                           const std::string& message) {
    auto model = tiny_decoder();
    change(model);
    const auto path = folder.path() / std::to_string(count++);
    const auto source = save(path, random_model(model));
    CHECK_THROWS_WITH(collapse(source, options), ContainsSubstring(message));
  };
  const auto nothing = [](DecoderOptions&) {};
  refuses([](auto& model) { model.num_experts = 0; }, {}, "the model has no experts");
  refuses(nothing, {.method = "sum"}, "method: sum is not one of average, concatenate");
  refuses(nothing, {.weights = {1.0}}, "weights: 1 numbers for 4 experts");
  refuses(nothing, {.weights = {0.0, 0.0, 0.0, 0.0}}, "not all 0");
  refuses(nothing, {.weights = {1.0, -1.0, 1.0, 1.0}}, "at least 0");
  refuses(
      [](auto& model) { model.router.normalize_weights = false; }, {}, "depends on the token");
  refuses([](auto& model) { model.moe_output_norm = true; }, {}, "moe_output_norm");
  refuses([](auto& model) { model.router.weights_on_input = true; }, {}, "weights_on_input");
  refuses(
      [](auto& model) {
        model.shared_expert_dim = 4;
        model.feed_forward_bias = true;
      },
      {},
      "without biases");
}
