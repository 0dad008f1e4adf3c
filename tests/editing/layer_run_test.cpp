#include "moe/editing/layer_run.h"

#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("run_layers brings tokens to the experts as the whole model does", "[editing]") {
  auto options = tiny_decoder(); // layer 0 is dense
  options.num_layers = 3;
  const std::string form = GENERATE("plain", "parallel", "after", "scaled");
  CAPTURE(form);
  options.norm_placement = form == "parallel" ? NormPlacement::parallel
                           : form == "after"  ? NormPlacement::after
                                              : NormPlacement::before;
  if (form == "scaled") {
    options.embedding_multiplier = 3.0;
    options.residual_multiplier = 0.5;
    options.no_rope_layers = {1};
  }
  const TemporaryFolder folder;
  auto model = random_model(options);
  const auto source = save(folder.path() / "model", model);
  const auto a = text_between("a", 0, 23);
  const auto b = text_between("b", 5, 9);
  std::vector<int64_t> visited;
  run_layers(options, source.lazy_tensors(), {a, b}, [&](LayerVisit& visit) {
    visited.push_back(visit.layer());
    REQUIRE(visit.inputs().size() == 2);
    const auto expected = model->forward(torch::cat(b.batches)).routing.at(visited.size() - 1);
    const auto routing = visit.experts()->router(visit.inputs()[1]);
    CHECK_THAT(routing.logits, AllClose(expected.logits, 1e-5));
  });
  CHECK(visited == std::vector<int64_t>{1, 2});
}

TEST_CASE("run_layers goes on with what a visit decided", "[editing]") {
  auto options = tiny_decoder();
  options.dense_layers.clear();
  const TemporaryFolder folder;
  auto model = random_model(options);
  const auto source = save(folder.path() / "model", model);
  auto tensors = source.lazy_tensors();
  bool decided = false;
  const std::string name = "layers.0.moe.down_proj";
  replace_tensor(tensors, name, tensors.at(name).shape, [&decided](const torch::Tensor& old) {
    return decided ? torch::zeros_like(old) : old;
  });
  {
    const torch::NoGradGuard no_grad;
    model->layers->ptr<DecoderBlockImpl>(0)->moe->down_proj.zero_();
  }
  const auto text = text_between("text", 0, 23);
  run_layers(options, tensors, {text}, [&](LayerVisit& visit) {
    decided = true;
    if (visit.layer() == 1) {
      const auto expected = model->forward(torch::cat(text.batches)).routing.at(1).logits;
      const auto routing = visit.experts()->router(visit.inputs()[0]);
      CHECK_THAT(routing.logits, AllClose(expected, 1e-5));
    }
  });
}
