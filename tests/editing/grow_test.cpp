#include "moe/editing/grow.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

DecoderOptions moe_decoder() {
  auto options = tiny_decoder();
  options.dense_layers.clear();
  return options;
}

/// Ids of the text that is new and of the one that the model knows.
const TextSample kFresh = text_between("fresh", 0, 4);
const TextSample kKnown = text_between("known", 12, 16);

void draw_selection_biases(DecoderLM model) {
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_buffers()) {
    if (item.key().ends_with("selection_bias")) {
      item.value().normal_(0.0, 0.1);
    }
  }
}

double share_of_new(DecoderLM model, const torch::Tensor& ids, size_t layer, int64_t first) {
  const torch::NoGradGuard no_grad;
  const auto experts = model->forward(ids).routing.at(layer).experts;
  return (experts >= first).to(torch::kFloat64).mean().item<double>();
}

} // namespace

TEST_CASE(
    "grow sends the new text to new experts and leaves the known one alone", "[editing]") {
  // Selection biases are added to scores: each kind of score has a threshold of its own.
  const auto [form, score] = GENERATE(table<std::string, std::string>(
      {{"plain", "softmax"},
       {"plain", "sigmoid"},
       {"bias", "softmax"},
       {"cap", "softmax"},
       {"selection bias", "softmax"},
       {"selection bias", "sigmoid"},
       {"selection bias", "sqrt_softplus"},
       {"selection bias", "identity"}}));
  CAPTURE(form, score);
  auto options = moe_decoder();
  options.router.bias = form == "bias";
  options.router.selection_bias = form == "selection bias";
  options.router.score = enum_from_name<RouterScore>("router_score", score);
  options.router.normalize_weights = score != "identity";
  options.router.logit_cap = form == "cap" || score == "sigmoid" ? 8.0 : 0.0;
  const TemporaryFolder folder;
  auto model = random_model(options);
  draw_selection_biases(model);
  const auto source = save(folder.path() / "model", model);
  const auto edited = grow(source, {.experts = 2}, {kFresh}, {kKnown});
  auto grown = write_and_load(folder.path() / "grown", edited, source);
  CHECK(grown->options.num_experts == 6);
  const NewExperts expected = {{0, {4, 5}}, {1, {4, 5}}};
  CHECK(edited.new_experts == expected);
  CHECK(read_new_experts(folder.path() / "grown") == expected);
  for (const size_t layer : {0, 1}) {
    CAPTURE(layer);
    CHECK(share_of_new(grown, kFresh.batches[0], layer, 4) > 0.95);
    CHECK(share_of_new(grown, kKnown.batches[0], layer, 4) == 0.0);
  }
  const auto known = ids_between(12, 16);
  CHECK_THAT(model_logits(grown, known), AllClose(model_logits(model, known), 1e-6));
  CHECK(edited.report.size() == 2);
}

TEST_CASE("grow leaves alone a known text that is all around the new one", "[editing]") {
  // More kinds of tokens than dimensions: no direction has them all on its negative side.
  const auto surrounding = text_between("known", 3, 23);
  const auto fresh = text_between("fresh", 0, 3);
  const TemporaryFolder folder;
  auto model = random_model(moe_decoder());
  const auto source = save(folder.path() / "model", model);
  const int64_t experts = GENERATE(1, 2, 4);
  CAPTURE(experts);
  auto grown = write_and_load(
      folder.path() / "grown",
      grow(source, {.experts = experts}, {fresh}, {surrounding}),
      source);
  const double possible = experts == 1 ? 0.5 : 1.0;
  CHECK(share_of_new(grown, fresh.batches[0], 0, 4) > 0.9 * possible);
  CHECK(share_of_new(grown, surrounding.batches[0], 0, 4) < 0.01);
  // Its tokens carry more of each other there.
  CHECK(share_of_new(grown, fresh.batches[0], 1, 4) > 0.6 * possible);
  CHECK(share_of_new(grown, surrounding.batches[0], 1, 4) < 0.025);
}

TEST_CASE("grow adds to a layer of one expert", "[editing]") {
  auto options = moe_decoder();
  options.num_experts = options.experts_per_token = 1;
  const TemporaryFolder folder;
  auto model = random_model(options);
  const auto source = save(folder.path() / "model", model);
  auto grown = write_and_load(
      folder.path() / "grown", grow(source, {.experts = 1}, {kFresh}, {kKnown}), source);
  CHECK(share_of_new(grown, kFresh.batches[0], 1, 1) > 0.9);
  CHECK(share_of_new(grown, kKnown.batches[0], 1, 1) < 0.1);
}

TEST_CASE("grow does not depend on what a router does in training", "[editing]") {
  auto options = moe_decoder();
  options.router.jitter = 0.5;
  options.router.selection_bias = true; // whose thresholds come from the router itself
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(options));
  const auto reported = [&](uint64_t seed) {
    torch::manual_seed(seed);
    const auto edited = grow(source, {.experts = 2}, {kFresh}, {kKnown});
    return edited.tensors.at("layers.1.moe.router.weight").make();
  };
  CHECK_THAT(reported(1), SameBits(reported(2)));
}

TEST_CASE("grow without a text hardly changes the function", "[editing]") {
  const TemporaryFolder folder;
  auto options = moe_decoder();
  options.num_experts = 8;
  auto model = random_model(options);
  const auto source = save(folder.path() / "model", model);
  const auto edited = grow(source, {.experts = 1, .layers = {1}});
  const auto notices = save_edited_model(folder.path() / "grown", edited, source);
  REQUIRE(notices.size() == 1);
  CHECK_THAT(notices[0], ContainsSubstring("layer_num_experts (8 9)"));
  auto grown = load(folder.path() / "grown");
  const auto ids = ids_between(0, 23);
  CHECK(share_of_new(grown, ids, 1, 8) < 0.05);
  const auto block = grown->layers->ptr<DecoderBlockImpl>(1)->moe;
  CHECK_THAT(block->down_proj[8], SameBits(block->down_proj[0].detach()));
}

TEST_CASE("grow without a text to keep guards against random tokens", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(moe_decoder()));
  auto grown =
      write_and_load(folder.path() / "grown", grow(source, {.experts = 2}, {kFresh}), source);
  CHECK(share_of_new(grown, kFresh.batches[0], 0, 4) > 0.5);
  CHECK(share_of_new(grown, kKnown.batches[0], 0, 4) < 0.2);
}

TEST_CASE("grow repeats itself byte for byte", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(moe_decoder()));
  for (const auto* name : {"a", "b"}) {
    save_edited_model(folder.path() / name, grow(source, {}, {kFresh}, {kKnown}), source);
  }
  const bool same = folder.read("a/model.safetensors") == folder.read("b/model.safetensors");
  CHECK(same);
}

TEST_CASE("grow refuses what makes no sense", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(tiny_decoder()));
  const auto refuses = [&](const GrowOptions& options, const std::string& message) {
    CHECK_THROWS_WITH(grow(source, options), ContainsSubstring(message));
  };
  refuses({.experts = 5}, "experts: 5 new ones are not possible; 1 to 4");
  refuses({.experts = 0}, "experts: 0");
  refuses({.layers = {0}}, "layers: 0 is not a layer with experts");
  auto options = tiny_decoder();
  options.num_experts = 0;
  const auto dense = save(folder.path() / "dense", random_model(options));
  CHECK_THROWS_WITH(grow(dense, {}), ContainsSubstring("the model has no experts"));
  auto cosine = tiny_decoder();
  cosine.router.gate = RouterGate::cosine;
  const auto by_cosine = save(folder.path() / "cosine", random_model(cosine));
  CHECK_THROWS_WITH(grow(by_cosine, {}), ContainsSubstring("router_gate is cosine"));
  CHECK_THROWS_WITH(
      save_edited_model(folder.path() / "model", grow(source, {}), source),
      ContainsSubstring("is already there"));
}
