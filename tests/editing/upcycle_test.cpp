#include "moe/editing/upcycle.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

DecoderOptions dense_decoder() {
  auto options = tiny_decoder();
  options.num_experts = 0;
  options.dense_layers.clear();
  return options;
}

} // namespace

TEST_CASE("upcycle computes what the dense model did", "[editing]") {
  const int64_t parts = GENERATE(1, 2, 3);
  const bool gated = GENERATE(true, false);
  const bool bias = GENERATE(false, true);
  CAPTURE(parts, gated, bias);
  auto options = dense_decoder();
  options.expert.gated = gated;
  options.feed_forward_bias = bias;
  const TemporaryFolder folder;
  auto dense = random_model(options);
  const auto source = save(folder.path() / "dense", dense);
  const auto edited =
      upcycle(source, {.experts = 4 * parts, .experts_per_token = 2 * parts, .parts = parts});
  auto mixture = write_and_load(folder.path() / "mixture", edited, source);
  CHECK(mixture->options.num_experts == 4 * parts);
  CHECK(mixture->options.expert_dim == options.dense_dim / parts);
  const auto ids = ids_between(0, options.vocab_size);
  CHECK_THAT(model_logits(mixture, ids), AllClose(model_logits(dense, ids), 1e-5));
  if (gated && !bias) {
    CHECK(source.family() == "qwen3");
    CHECK(ModelFolder(folder.path() / "mixture").family() == "qwen3_moe");
  }
}

TEST_CASE("upcycle gives experts to the chosen layers only", "[editing]") {
  const TemporaryFolder folder;
  auto dense = random_model(dense_decoder());
  const auto source = save(folder.path() / "dense", dense);
  auto mixture = write_and_load(
      folder.path() / "mixture", upcycle(source, {.experts = 3, .layers = {1}}), source);
  CHECK(moe_layers(mixture->options) == std::vector<int64_t>{1});
  const auto ids = ids_between(0, 23);
  CHECK_THAT(model_logits(mixture, ids), AllClose(model_logits(dense, ids), 1e-5));
}

TEST_CASE("upcycle draws a share of the hidden units anew", "[editing]") {
  const TemporaryFolder folder;
  auto dense = random_model(dense_decoder()); // 24 hidden units
  const auto source = save(folder.path() / "dense", dense);
  const auto edited = upcycle(source, {.experts = 4, .reinitialize = 0.5, .seed = 3});
  auto mixture = write_and_load(folder.path() / "mixture", edited, source);
  const auto network = dense->layers->ptr<DecoderBlockImpl>(0)->feed_forward;
  const auto block = mixture->layers->ptr<DecoderBlockImpl>(0)->moe;
  torch::Tensor last;
  for (int64_t expert = 0; expert < 4; ++expert) {
    const auto changed = (block->gate_up_proj[expert] != network->gate_up_proj).all(1);
    const auto gate = changed.slice(0, 0, 24);
    CHECK(gate.sum().item<int64_t>() == 12);
    CHECK(torch::equal(gate, changed.slice(0, 24)));
    CHECK(torch::equal(gate, (block->down_proj[expert] != network->down_proj).all(0)));
    CHECK_FALSE((last.defined() && torch::equal(last, gate)));
    last = gate;
  }
  // The new values are spread as the old ones were.
  const double ratio = (block->gate_up_proj.std() / network->gate_up_proj.std()).item<double>();
  CHECK_THAT(ratio, WithinAbs(1.0, 0.1));
}

TEST_CASE("upcycle repeats itself byte for byte, another seed does not", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "dense", random_model(dense_decoder()));
  const auto write = [&](const std::string& name, int64_t seed) {
    const auto edited = upcycle(source, {.experts = 4, .reinitialize = 0.25, .seed = seed});
    save_edited_model(folder.path() / name, edited, source);
    return folder.read(name + "/model.safetensors");
  };
  const auto first = write("a", 7);
  const bool same = write("b", 7) == first;
  const bool other_seed_is_same = write("c", 8) == first;
  CHECK(same);
  CHECK_FALSE(other_seed_is_same);
}

TEST_CASE("upcycle refuses what does not fit", "[editing]") {
  const TemporaryFolder folder;
  const auto dense = save(folder.path() / "dense", random_model(dense_decoder()));
  const auto mixture = save(folder.path() / "mixture", random_model(tiny_decoder()));
  const auto refuses =
      [](const ModelFolder& source, const UpcycleOptions& options, const std::string& text) {
        CHECK_THROWS_WITH(upcycle(source, options), ContainsSubstring(text));
      };
  refuses(mixture, {}, "has experts already");
  refuses(dense, {.parts = 5}, "parts: 5 does not divide dense_dim (24)");
  refuses(dense, {.experts = 7, .parts = 2}, "experts: 7 is not a multiple of parts (2)");
  refuses(dense, {.experts_per_token = 9}, "experts_per_token: 9");
  refuses(dense, {.experts_per_token = 3, .parts = 2}, "experts_per_token: 3");
  refuses(dense, {.reinitialize = 1.5}, "reinitialize: 1.5");
  refuses(dense, {.layers = {2}}, "there is no layer 2");
}
