#include "moe/editing/merge.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

DecoderOptions dense_specialist() {
  auto options = tiny_decoder();
  options.num_experts = 0;
  options.dense_layers.clear();
  return options;
}

std::shared_ptr<const ModelFolder> specialist(
    const TemporaryFolder& folder, const DecoderOptions& options, uint64_t seed) {
  const auto path = folder.path() / std::to_string(seed);
  save(path, random_model(options, seed));
  return std::make_shared<const ModelFolder>(path);
}

/// The part of tokens of which expert `expert` is the first choice in layer `layer`.
double first_choice(
    DecoderLM model, const torch::Tensor& ids, size_t layer, int64_t first, int64_t last) {
  const torch::NoGradGuard no_grad;
  const auto experts = model->forward(ids).routing.at(layer).experts.select(1, 0);
  return ((experts >= first) & (experts < last)).to(torch::kFloat64).mean().item<double>();
}

} // namespace

TEST_CASE("merge of a dense model with itself computes the same", "[editing]") {
  const std::string trunk = GENERATE("average", "first");
  const TemporaryFolder folder;
  const auto model = specialist(folder, dense_specialist(), 1);
  const auto edited = merge({model, model, model}, {.trunk = trunk});
  auto merged = write_and_load(folder.path() / "merged", edited, *model);
  CHECK(merged->options.num_experts == 3);
  CHECK(ModelFolder(folder.path() / "merged").family() == "qwen3_moe");
  const auto ids = ids_between(0, 23);
  CHECK_THAT(model_logits(merged, ids), AllClose(model_logits(load(model->path()), ids), 1e-5));
}

TEST_CASE("merge keeps every model's networks and mixes the rest", "[editing]") {
  const std::string trunk = GENERATE("average", "first");
  const TemporaryFolder folder;
  const auto a = specialist(folder, dense_specialist(), 1);
  const auto b = specialist(folder, dense_specialist(), 2);
  auto merged = write_and_load(folder.path() / "merged", merge({a, b}, {.trunk = trunk}), *a);
  const auto tensors_a = a->tensors();
  const auto tensors_b = b->tensors();
  const auto block = merged->layers->ptr<DecoderBlockImpl>(1)->moe;
  CHECK_THAT(block->down_proj[0], SameBits(tensors_a["layers.1.feed_forward.down_proj"]));
  CHECK_THAT(block->gate_up_proj[1], SameBits(tensors_b["layers.1.feed_forward.gate_up_proj"]));
  const auto expected =
      trunk == "first" ? tensors_a["embedding.weight"]
                       : (tensors_a["embedding.weight"] + tensors_b["embedding.weight"]) / 2;
  CHECK_THAT(merged->embedding->weight.detach(), AllClose(expected, 1e-6));
}

TEST_CASE("merge lets texts choose the experts of their model", "[editing]") {
  const bool dense = GENERATE(true, false);
  auto options = dense_specialist();
  options.num_experts = dense ? 0 : 3;
  const TemporaryFolder folder;
  const auto a = specialist(folder, options, 1);
  const auto b = specialist(folder, options, 2);
  const std::vector<TextSample> texts = {text_between("a", 0, 5), text_between("b", 12, 17)};
  auto merged = write_and_load(folder.path() / "merged", merge({a, b}, {}, texts), *a);
  const int64_t each = dense ? 1 : 3;
  CHECK(merged->options.num_experts == 2 * each);
  for (const size_t layer : {0, 1}) {
    CHECK(first_choice(merged, ids_between(0, 5), layer, 0, each) > 0.95);
    CHECK(first_choice(merged, ids_between(12, 17), layer, each, 2 * each) > 0.95);
  }
}

TEST_CASE("merge repeats itself byte for byte, another seed does not", "[editing]") {
  const TemporaryFolder folder;
  const auto a = specialist(folder, dense_specialist(), 1);
  const auto b = specialist(folder, dense_specialist(), 2);
  const auto write = [&](const std::string& name, int64_t seed, bool with_texts) {
    const auto texts =
        with_texts ? std::vector<TextSample>{text_between("a", 0, 5), text_between("b", 12, 17)}
                   : std::vector<TextSample>{};
    save_edited_model(folder.path() / name, merge({a, b}, {.seed = seed}, texts), *a);
    return folder.read(name + "/model.safetensors");
  };
  const bool same_by_texts = write("texts", 7, true) == write("texts again", 7, true);
  const auto first = write("first", 7, false);
  const bool same = write("again", 7, false) == first;
  const bool other_seed_is_same = write("other", 8, false) == first;
  CHECK(same_by_texts);
  CHECK(same);
  CHECK_FALSE(other_seed_is_same);
}

TEST_CASE("merge refuses models that do not fit together", "[editing]") {
  const TemporaryFolder folder;
  const auto a = specialist(folder, dense_specialist(), 1);
  const auto b = specialist(folder, dense_specialist(), 2);
  auto wider = dense_specialist();
  wider.dense_dim = 32;
  const auto c = specialist(folder, wider, 3);
  CHECK_THROWS_WITH(merge({a}, {}), ContainsSubstring("1 model; expected at least two"));
  CHECK_THROWS_WITH(merge({a, c}, {}), ContainsSubstring("has other options than"));
  CHECK_THROWS_WITH(merge({a, b}, {.trunk = "b"}), ContainsSubstring("trunk: b is not one of"));
  CHECK_THROWS_WITH(
      merge({a, b}, {.experts_per_token = 3}), ContainsSubstring("more than the 2 models"));
  CHECK_THROWS_WITH(
      merge({a, b}, {}, {text_between("a", 0, 5)}), ContainsSubstring("1 texts for 2 models"));
  folder.write("2/tokenizer.json", "{}");
  CHECK_THROWS_WITH(merge({a, b}, {}), ContainsSubstring("another tokenizer"));
  const auto mixture = specialist(folder, tiny_decoder(), 4);
  CHECK_THROWS_WITH(
      merge({mixture, mixture}, {.experts_per_token = 1}),
      ContainsSubstring("the models have 2"));
}
