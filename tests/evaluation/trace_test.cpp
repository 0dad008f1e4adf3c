#include "moe/evaluation/trace.h"

#include "moe/error.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("trace_model: every tensor has its name, shape and meaning", "[evaluation]") {
  torch::manual_seed(1);
  DecoderLM model(tiny_decoder());
  const auto ids = torch::randint(23, {2, 5});
  const auto trace = trace_model(model, ids);
  CHECK(
      trace.keys() == std::vector<std::string>{
                          "logits",
                          "hidden_states.0",
                          "hidden_states.1",
                          "hidden_states.2",
                          "router_logits.1",
                          "experts.1",
                          "weights.1"});
  const torch::NoGradGuard no_grad;
  const auto output = model->forward(ids);
  CHECK(torch::equal(trace["logits"], model->logits(output.hidden)));
  CHECK(torch::equal(trace["hidden_states.0"], model->embedding(ids)));
  CHECK(torch::equal(trace["hidden_states.2"], output.hidden));
  CHECK(trace["hidden_states.1"].sizes() == torch::IntArrayRef({2, 5, 16}));
  CHECK(torch::equal(trace["router_logits.1"].flatten(0, 1), output.routing[0].logits));
  CHECK(torch::equal(trace["experts.1"].flatten(0, 1), output.routing[0].experts));
  CHECK(torch::equal(trace["weights.1"].flatten(0, 1), output.routing[0].weights));
}

TEST_CASE("trace_model: ids that the model does not have are refused", "[evaluation]") {
  DecoderLM model(tiny_decoder());
  CHECK_THROWS_WITH(
      trace_model(model, torch::full({1, 2}, 23)), ContainsSubstring("no token 23"));
  CHECK_THROWS_WITH(
      trace_model(model, torch::full({1, 2}, -1)), ContainsSubstring("no token -1"));
  CHECK_THROWS_WITH(
      trace_model(model, torch::zeros({1, 49}, torch::kInt64)), ContainsSubstring("49 tokens"));
  CHECK_THROWS_WITH(
      trace_model(model, torch::zeros({1, 2})), ContainsSubstring("int64 [B, S]"));
  CHECK_THROWS_WITH(
      trace_model(model, torch::zeros({2}, torch::kInt64)), ContainsSubstring("int64 [B, S]"));
}
