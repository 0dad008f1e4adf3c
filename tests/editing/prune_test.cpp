#include "moe/editing/prune.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

DecoderOptions biased_decoder() {
  auto options = tiny_decoder();
  options.dense_layers.clear();
  options.router.bias = true;
  options.num_experts = 5;
  return options;
}

SparseMoEBlock moe_of(DecoderLM& model, size_t layer) {
  return model->layers->ptr<DecoderBlockImpl>(layer)->moe;
}

/// Which rows of `old` are in `pruned`.
std::vector<bool> remaining(SparseMoEBlock old, SparseMoEBlock pruned) {
  std::vector<bool> result;
  for (int64_t i = 0; i < old->router->weight.size(0); ++i) {
    const auto same = (pruned->router->weight == old->router->weight[i]).all(1);
    result.push_back(same.any().item<bool>());
  }
  return result;
}

/// Nothing can choose the experts that are not in `pruned` any more.
void mask(SparseMoEBlock old, SparseMoEBlock pruned) {
  const torch::NoGradGuard no_grad;
  const auto kept = remaining(old, pruned);
  for (size_t i = 0; i < kept.size(); ++i) {
    if (!kept[i]) {
      old->router->bias[static_cast<int64_t>(i)] = -1e9;
    }
  }
}

} // namespace

TEST_CASE("prune leaves the model without what could choose the removed ones", "[editing]") {
  const std::string by = GENERATE("activation", "load");
  const auto layers = GENERATE(std::vector<int64_t>{}, std::vector<int64_t>{1});
  CAPTURE(by, layers);
  const TemporaryFolder folder;
  auto model = random_model(biased_decoder());
  const auto source = save(folder.path() / "model", model);
  const auto text = text_between("text", 0, 23);
  const auto edited = prune(source, {.experts = 3, .by = by, .layers = layers}, {text});
  auto pruned = write_and_load(folder.path() / "pruned", edited, source);
  CHECK(layer_experts(pruned->options, 0) == (layers.empty() ? 3 : 5));
  CHECK(layer_experts(pruned->options, 1) == 3);
  for (const size_t layer : {0, 1}) {
    mask(moe_of(model, layer), moe_of(pruned, layer));
  }
  const auto ids = ids_between(0, 23);
  CHECK_THAT(model_logits(pruned, ids), AllClose(model_logits(model, ids), 1e-5));
}

TEST_CASE("prune removes what is not chosen, or is chosen for nothing", "[editing]") {
  const TemporaryFolder folder;
  auto model = random_model(biased_decoder());
  {
    const torch::NoGradGuard no_grad;
    auto block = moe_of(model, 0);
    block->router->bias[3] = -50.0; // never chosen
    block->router->bias[1] = 50.0;  // by every token
    block->down_proj[1].zero_();    // and for nothing
  }
  const auto source = save(folder.path() / "model", model);
  const auto text = text_between("text", 0, 23);
  const auto without = [&](const std::string& by, int64_t experts) {
    const auto path = folder.path() / (by + std::to_string(experts));
    const auto edited = prune(source, {.experts = experts, .by = by}, {text});
    auto pruned = write_and_load(path, edited, source);
    return remaining(moe_of(model, 0), moe_of(pruned, 0));
  };
  CHECK(without("load", 4) == std::vector<bool>{true, true, true, false, true});
  CHECK(without("activation", 3) == std::vector<bool>{true, false, true, false, true});
}

TEST_CASE("prune takes rows of every kind of router along", "[editing]") {
  const TemporaryFolder folder;
  auto options = tiny_decoder();
  options.router.gate = RouterGate::cosine;
  options.router.cosine_dim = 6;
  options.router.noise = RouterNoise::learned;
  auto model = random_model(options);
  const auto source = save(folder.path() / "model", model);
  const auto edited = prune(source, {.experts = 3}, {text_between("text", 0, 23)});
  auto pruned = write_and_load(folder.path() / "pruned", edited, source);
  CHECK(moe_of(pruned, 1)->router->noise_weight.size(0) == 3);
  CHECK_THAT(
      moe_of(pruned, 1)->router->projection.detach(),
      SameBits(moe_of(model, 1)->router->projection.detach()));
}

TEST_CASE("prune keeps an architecture where it can and says where not", "[editing]") {
  const TemporaryFolder folder;
  auto options = tiny_decoder();
  options.dense_layers.clear();
  const auto source = save(folder.path() / "model", random_model(options));
  const auto text = text_between("text", 0, 23);
  const auto all = prune(source, {.share = 0.6}, {text});
  CHECK(save_edited_model(folder.path() / "all", all, source).empty());
  CHECK(ModelFolder(folder.path() / "all").family() == "qwen3_moe");
  CHECK(ModelFolder(folder.path() / "all").options().num_experts == 3);
  const auto some = prune(source, {.experts = 2, .layers = {0}}, {text});
  const auto notices = save_edited_model(folder.path() / "some", some, source);
  REQUIRE(notices.size() == 1);
  CHECK_THAT(notices[0], ContainsSubstring("qwen3_moe has no layer_num_experts (2 4)"));
  const ModelFolder written(folder.path() / "some");
  CHECK(written.family() == "moe_decoder");
  CHECK(written.options().layer_num_experts == std::vector<int64_t>{2, 4});
}

TEST_CASE("prune repeats itself byte for byte", "[editing]") {
  const std::string by = GENERATE("activation", "load");
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(biased_decoder()));
  for (const auto* name : {"a", "b"}) {
    const auto edited = prune(source, {.experts = 3, .by = by}, {text_between("text", 0, 23)});
    save_edited_model(folder.path() / name, edited, source);
  }
  const bool same = folder.read("a/model.safetensors") == folder.read("b/model.safetensors");
  CHECK(same);
}

TEST_CASE("prune refuses what makes no sense", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(biased_decoder()));
  const auto text = text_between("text", 0, 23);
  const auto refuses = [&](const PruneOptions& options, const std::string& message) {
    CHECK_THROWS_WITH(prune(source, options, {text}), ContainsSubstring(message));
  };
  refuses({.experts = 1}, "1 experts cannot remain in layer 0; at least experts_per_token (2)");
  refuses({.experts = 5}, "fewer than its 5");
  refuses({.share = 0.1}, "1 experts cannot remain");
  refuses({.experts = 3, .by = "size"}, "by: size is not one of activation, load");
  refuses({.experts = 3, .layers = {2}}, "layers: 2 is not a layer with experts");
  CHECK_THROWS_WITH(prune(source, {.experts = 3}, {}), ContainsSubstring("needs a text"));
  auto groups = tiny_decoder();
  groups.router.selection = RouterSelection::groups_by_max;
  groups.router.groups = 2;
  groups.router.groups_kept = 1;
  const auto grouped = save(folder.path() / "grouped", random_model(groups));
  CHECK_THROWS_WITH(prune(grouped, {.experts = 3}, {text}), ContainsSubstring("groups_by_max"));
}
