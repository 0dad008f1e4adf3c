#include "moe/evaluation/evaluator.h"

#include <cmath>

#include "moe/decoder/next_token_loss.h"
#include "moe/evaluation/log_likelihood.h"
#include "moe/evaluation/trace.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_data.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

EvaluationDomain domain(
    const std::string& name, const TokenFile& tokens, int64_t batch, int64_t length) {
  return {name, EvaluationWindows(tokens, 0, batch, length)};
}

} // namespace

TEST_CASE("evaluate: a model of uniform logits has loss ln V", "[evaluation]") {
  const TemporaryFolder folder;
  DecoderLM model(tiny_decoder());
  {
    const torch::NoGradGuard no_grad;
    model->lm_head->weight.zero_();
  }
  const auto tokens = token_file(folder.path() / "t", repeating_ids(100, 7), 23);
  const auto evaluation = evaluate(model, {domain("text", tokens, 3, 16)});
  CHECK_THAT(evaluation.total.loss, WithinAbs(std::log(23.0), 1e-5));
  CHECK_THAT(evaluation.total.perplexity, WithinAbs(23.0, 1e-3));
  CHECK_THAT(evaluation.total.loss_stderr, WithinAbs(0.0, 1e-6));
  // 100 tokens of one byte each, and the end of the text.
  CHECK(evaluation.total.tokens == 101);
  CHECK(evaluation.total.bytes == 100);
  CHECK_THAT(evaluation.total.bits_per_byte, WithinAbs(std::log2(23.0) * 101.0 / 100.0, 1e-5));
}

TEST_CASE("evaluate: batch size does not matter, padding does not count", "[evaluation]") {
  torch::manual_seed(0);
  const TemporaryFolder folder;
  DecoderLM model(tiny_decoder());
  const auto tokens = token_file(folder.path() / "t", repeating_ids(77, 5), 23);
  const auto one = evaluate(model, {domain("text", tokens, 1, 16)});
  const auto many = evaluate(model, {domain("text", tokens, 4, 16)});
  CHECK_THAT(many.total.loss, WithinRel(one.total.loss, 1e-6));
  CHECK_THAT(many.total.loss_stderr, WithinRel(one.total.loss_stderr, 1e-4));
  REQUIRE(many.routing.size() == 1);
  CHECK(many.routing[0].load == one.routing[0].load);
  double sum = 0.0;
  for (const double load : one.routing[0].load) {
    sum += load;
  }
  CHECK_THAT(sum, WithinAbs(1.0, 1e-12));
}

TEST_CASE("evaluate: a domain without a token to predict is named", "[evaluation]") {
  const TemporaryFolder folder;
  const auto tokens = token_file(folder.path() / "t", repeating_ids(77, 5), 23);
  const EvaluationDomain first_token = {
      "first", EvaluationWindows(tokens, 0, 1, 16, /*max_tokens=*/1, /*document_mask=*/true)};
  DecoderLM model(tiny_decoder());
  CHECK_THROWS_WITH(
      evaluate(model, {domain("text", tokens, 1, 16), first_token}),
      ContainsSubstring("domain 'first' has no token to predict"));
}

TEST_CASE("evaluate: the total is over the tokens of all domains", "[evaluation]") {
  torch::manual_seed(1);
  const TemporaryFolder folder;
  DecoderLM model(tiny_decoder());
  const auto a = token_file(folder.path() / "a", repeating_ids(50, 5), 23);
  const auto b = token_file(folder.path() / "b", repeating_ids(20, 11), 23);
  const auto evaluation = evaluate(model, {domain("a", a, 2, 8), domain("b", b, 2, 8)});
  REQUIRE(evaluation.domains.size() == 2);
  CHECK(evaluation.domains[0].first == "a");
  const auto& first = evaluation.domains[0].second;
  const auto& second = evaluation.domains[1].second;
  CHECK(evaluation.total.tokens == first.tokens + second.tokens);
  CHECK_THAT(
      evaluation.total.loss,
      WithinRel(
          (first.loss * static_cast<double>(first.tokens) +
           second.loss * static_cast<double>(second.tokens)) /
              static_cast<double>(first.tokens + second.tokens),
          1e-9));
}

TEST_CASE("evaluate: the standard error is that of window means", "[evaluation]") {
  torch::manual_seed(2);
  const TemporaryFolder folder;
  DecoderLM model(tiny_decoder());
  const auto tokens = token_file(folder.path() / "t", repeating_ids(63, 23 - 1), 23);
  // 64 tokens in four full windows of 16: the spread of four means.
  EvaluationWindows windows(tokens, 0, 4, 16);
  const auto batch = windows.batch(0);
  REQUIRE(batch.loss_mask.sum().item<double>() == 64.0);
  const torch::NoGradGuard no_grad;
  const auto means =
      token_losses(model->forward(batch.inputs).hidden, model->head_weight(), batch.targets)
          .mean(1);
  const double expected = means.std().item<double>() / 2.0;
  CHECK_THAT(
      evaluate(model, {domain("t", tokens, 4, 16)}).total.loss_stderr,
      WithinRel(expected, 1e-4));
}

TEST_CASE("evaluate: leaves the model as it was", "[evaluation]") {
  torch::manual_seed(3);
  const TemporaryFolder folder;
  DecoderLM model(tiny_decoder());
  const auto before = model->embedding->weight.detach().clone();
  model->train();
  const auto tokens = token_file(folder.path() / "t", repeating_ids(30, 5), 23);
  evaluate(model, {domain("t", tokens, 2, 8)});
  CHECK(model->is_training());
  const auto strange = token_file(folder.path() / "s", repeating_ids(30, 25), 26);
  CHECK_THROWS(evaluate(model, {domain("s", strange, 2, 8)})); // more tokens than the model has
  CHECK(model->is_training());
  CHECK_FALSE(model->embedding->weight.grad().defined());
  CHECK_THAT(model->embedding->weight, SameBits(before));
}

TEST_CASE(
    "trace_model, log_likelihoods: a model that trains goes on training", "[evaluation]") {
  DecoderLM model(tiny_decoder());
  trace_model(model, torch::tensor({{1, 2, 3}}));
  CHECK(model->is_training());
  log_likelihoods(model, {{{1, 2}, {3}}}, /*batch_size=*/1);
  CHECK(model->is_training());
}
