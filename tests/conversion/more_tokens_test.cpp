#include "moe/conversion/more_tokens.h"

#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("add_tokens: old tokens stay, new rows are the mean", "[conversion]") {
  const bool tied = GENERATE(true, false);
  CAPTURE(tied);
  DecoderOptions options{
      .vocab_size = 20, .model_dim = 16, .num_layers = 1, .attention = {.num_heads = 2}};
  options.num_experts = 4;
  options.experts_per_token = 2;
  options.expert_dim = 8;
  options.tie_embeddings = tied;
  options.head_bias = true;
  const TemporaryFolder folder;
  auto model = random_model(options);
  const auto saved = save(folder.path() / "model", model);
  auto more = saved.options();
  auto tensors = saved.lazy_tensors();
  add_tokens(more, tensors, 23);
  CHECK(more.vocab_size == 23);
  const auto source = folder.path() / "more";
  StateDict made;
  for (const auto& [name, tensor] : tensors) {
    made.insert(name, tensor.make());
    CHECK(made[name].sizes().vec() == tensor.shape);
  }
  save_model_folder(source, more, made);
  const auto larger = load(source);

  const auto ids = ids_between(0, 20);
  const auto before = model_logits(model, ids); // [B, S, 20]
  const auto after = model_logits(larger, ids); // [B, S, 23]
  CHECK(torch::equal(after.slice(-1, 0, 20), before));
  const auto mean = before.mean(-1, /*keepdim=*/true).expand({-1, -1, 3});
  CHECK(torch::allclose(after.slice(-1, 20), mean, 1e-5, 1e-5));
  CHECK(torch::allclose(
      larger->embedding->weight[22], model->embedding->weight.mean(0), 1e-6, 1e-6));

  auto same = saved.options();
  add_tokens(same, tensors, 19);
  CHECK(same.vocab_size == 20);
}
