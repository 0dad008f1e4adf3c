#include "moe/evaluation/log_likelihood.h"

#include "moe/error.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// The same one token at a time.
double slow_log_likelihood(DecoderLM& model, const LikelihoodRequest& request) {
  const torch::NoGradGuard no_grad;
  std::vector<int64_t> ids(request.context.begin(), request.context.end());
  double sum = 0.0;
  for (const int32_t id : request.continuation) {
    const auto input = torch::tensor(ids).unsqueeze(0);
    const auto logits = model->logits(model->forward(input).hidden.select(1, -1));
    sum += torch::log_softmax(logits, -1)[0][id].item<double>();
    ids.push_back(id);
  }
  return sum;
}

} // namespace

TEST_CASE("log_likelihoods equals one token at a time, in any batch", "[evaluation]") {
  torch::manual_seed(3);
  DecoderLM model(tiny_decoder());
  const std::vector<LikelihoodRequest> requests = {
      {{1}, {2}}, {{3, 4, 5}, {6, 7}}, {{1, 2, 3, 4, 5, 6, 7, 8}, {9}}, {{0}, {5, 5, 5, 5, 5}}};
  for (const int64_t batch_size : {1, 2, 8}) {
    const auto found = log_likelihoods(model, requests, batch_size);
    REQUIRE(found.size() == requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      CHECK_THAT(found[i], WithinRel(slow_log_likelihood(model, requests[i]), 1e-5));
    }
  }
}

TEST_CASE("log_likelihoods: of what is too long the end counts", "[evaluation]") {
  torch::manual_seed(4);
  DecoderLM model(tiny_decoder()); // a context of 48
  std::vector<int32_t> ids;
  for (int32_t i = 0; i < 60; ++i) {
    ids.push_back(i % 23);
  }
  const LikelihoodRequest whole = {ids, {7, 8}};
  const LikelihoodRequest end = {{ids.end() - 47, ids.end()}, {7, 8}};
  const auto found = log_likelihoods(model, {whole, end}, 1);
  CHECK(found[0] == found[1]);
}

TEST_CASE("log_likelihoods: impossible requests are refused", "[evaluation]") {
  DecoderLM model(tiny_decoder());
  CHECK_THROWS_WITH(log_likelihoods(model, {{{23}, {1}}}, 1), ContainsSubstring("no token 23"));
  CHECK_THROWS_WITH(log_likelihoods(model, {{{1}, {}}}, 1), ContainsSubstring("at least one"));
  CHECK_THROWS_WITH(log_likelihoods(model, {}, 0), ContainsSubstring("batch_size"));
}
