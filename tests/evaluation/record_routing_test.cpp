#include "moe/evaluation/record_routing.h"

#include "moe/error.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_data.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("record_routing: is what the model decides on each piece alone", "[evaluation]") {
  torch::manual_seed(0);
  const TemporaryFolder folder;
  DecoderLM model(tiny_decoder());
  model->train();
  const auto a = token_file(folder.path() / "a", repeating_ids(37, 7), 23);
  const auto b = token_file(folder.path() / "b", repeating_ids(20, 11), 23);
  const auto record = record_routing(
      model,
      {{"a", a}, {"b", b}},
      {.max_tokens = 30, .piece_length = 8, .batch_size = 3, .seed = 1});
  CHECK(model->is_training());
  CHECK(record.domains == std::vector<std::string>{"a", "b"});
  REQUIRE(record.layers.size() == 1);
  const auto& layer = record.layers[0];
  CHECK(layer.layer == 1); // layer 0 is dense
  CHECK(layer.num_experts == 4);
  REQUIRE(layer.experts_per_token == 2);
  REQUIRE(record.num_tokens() == 30 + 21);
  REQUIRE(layer.experts.size() == 2 * 51);
  REQUIRE(layer.weights.size() == 2 * 51);

  const torch::NoGradGuard no_grad;
  model->eval();
  int64_t next = 0;
  for (const auto& piece : record.pieces) {
    CHECK(piece.begin == next);
    next = piece.end;
    const std::vector<int64_t> ids(
        record.ids.begin() + piece.begin, record.ids.begin() + piece.end);
    const auto routing = model->forward(torch::tensor(ids).unsqueeze(0)).routing[0];
    const auto count = static_cast<size_t>((piece.end - piece.begin) * 2);
    const auto first = static_cast<size_t>(piece.begin * 2);
    for (size_t i = 0; i < count; ++i) {
      const auto place = static_cast<int64_t>(i);
      CHECK(
          routing.experts.reshape(-1)[place].item<int64_t>() ==
          int64_t{layer.experts[first + i]});
      CHECK_THAT(
          routing.weights.reshape(-1)[place].item<float>(),
          WithinAbs(layer.weights[first + i], 1e-5));
    }
  }
  CHECK(next == 51);
}

TEST_CASE("record_routing: what cannot be recorded is refused", "[evaluation]") {
  const TemporaryFolder folder;
  const auto tokens = token_file(folder.path() / "a", repeating_ids(37, 7), 23);
  auto options = tiny_decoder();
  CHECK_THROWS_WITH(
      record_routing(DecoderLM(options), {{"a", tokens}}, {.piece_length = 49}),
      ContainsSubstring("49 tokens are more than the model's context of 48"));
  options.num_experts = 0;
  CHECK_THROWS_WITH(
      record_routing(DecoderLM(options), {{"a", tokens}}, {.piece_length = 8}),
      ContainsSubstring("no layer with experts"));
}
