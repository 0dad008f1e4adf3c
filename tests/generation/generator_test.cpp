#include "moe/generation/generator.h"

#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

DecoderOptions byte_decoder() {
  auto options = tiny_decoder();
  options.vocab_size = 257;
  return options;
}

SamplerOptions greedy(int64_t tokens) {
  SamplerOptions options;
  options.max_new_tokens = tokens;
  options.temperature = 0.0;
  options.ignore_end_of_text = true;
  return options;
}

/// A model that always predicts `id`, whatever came before.
DecoderLM model_that_writes(int64_t id) {
  DecoderLM model(byte_decoder());
  const torch::NoGradGuard no_grad;
  // A constant feature in the last place of every hidden state, which only `id` likes.
  model->final_norm->weight.zero_();
  model->lm_head->weight.zero_();
  model->embedding->weight.select(1, 15).fill_(100.0);
  model->final_norm->weight[15] = 1.0;
  model->lm_head->weight[id][15] = 1.0;
  return model;
}

} // namespace

TEST_CASE(
    "generate_tokens: greedy with the cache equals without, any prompt length",
    "[generation]") {
  torch::manual_seed(0);
  DecoderLM model(tiny_decoder());
  const torch::NoGradGuard no_grad;
  for (int32_t length = 1; length < 30; length += 3) {
    std::vector<int32_t> prompt;
    for (int32_t i = 0; i < length; ++i) {
      prompt.push_back((i * 7 + length) % 23);
    }
    const auto generation = generate_tokens(model, prompt, greedy(12));
    std::vector<int64_t> ids(prompt.begin(), prompt.end());
    for (const int32_t id : generation.ids) {
      const auto logits =
          model->logits(model->forward(torch::tensor(ids).unsqueeze(0)).hidden)[0][-1];
      const auto best = std::get<0>(logits.topk(2));
      if ((best[0] - best[1]).item<double>() > 1e-3) {
        CHECK(logits.argmax().item<int64_t>() == id);
      }
      ids.push_back(id);
    }
    CHECK(generation.ids.size() == 12);
    CHECK(generation.prompt_tokens == length);
    CHECK(generation.finish == FinishReason::length);
  }
}

TEST_CASE("generate_tokens: ends where the context is full, and says so", "[generation]") {
  DecoderLM model(tiny_decoder()); // a context of 48
  const auto generation = generate_tokens(model, std::vector<int32_t>(40, 1), greedy(100));
  CHECK(generation.ids.size() == 8);
  CHECK(generation.context_full);
  CHECK_FALSE(generate_tokens(model, {1}, greedy(5)).context_full);
  REQUIRE_THROWS_WITH(
      generate_tokens(model, std::vector<int32_t>(48, 1), greedy(1)),
      ContainsSubstring("48 tokens") && ContainsSubstring("context of 48"));
  REQUIRE_THROWS_WITH(
      generate_tokens(model, {23}, greedy(1)), ContainsSubstring("no token 23"));
}

TEST_CASE("Generator: the same seed repeats, another differs", "[generation]") {
  torch::manual_seed(1);
  Generator generator(DecoderLM(byte_decoder()), Tokenizer::bytes());
  SamplerOptions options;
  options.max_new_tokens = 20;
  options.seed = 5;
  const auto first = generator.generate({65, 66}, options);
  CHECK(generator.generate({65, 66}, options).ids == first.ids);
  options.seed = 6;
  CHECK(generator.generate({65, 66}, options).ids != first.ids);
}

TEST_CASE("Generator: streams what it returns", "[generation]") {
  torch::manual_seed(2);
  Generator generator(DecoderLM(byte_decoder()), Tokenizer::bytes());
  SamplerOptions options;
  options.max_new_tokens = 40;
  options.temperature = 2.0;
  options.ignore_end_of_text = true;
  std::string streamed;
  const auto generation = generator.generate({65}, options, [&](std::string_view piece) {
    streamed += piece;
    return true;
  });
  CHECK(streamed == generation.text);
  CHECK(generation.ids.size() == 40);
}

TEST_CASE("Generator: an id that the tokenizer has not adds no text", "[generation]") {
  torch::manual_seed(2);
  auto options = byte_decoder();
  options.vocab_size = 320;
  Generator generator(DecoderLM(options), Tokenizer::bytes());
  SamplerOptions sampling;
  sampling.max_new_tokens = 40;
  sampling.temperature = 2.0;
  sampling.ignore_end_of_text = true;
  const auto generation = generator.generate({65}, sampling);
  std::vector<int32_t> known;
  for (const int32_t id : generation.ids) {
    if (id < 257) {
      known.push_back(id);
    }
  }
  CHECK(generation.ids.size() == 40);
  CHECK(known.size() < 40);
  CHECK(generation.text == Tokenizer::bytes().decode(known));
}

TEST_CASE("Generator: stop texts, end of text and the caller end a text", "[generation]") {
  SECTION("stop text") {
    Generator generator(model_that_writes('a'), Tokenizer::bytes());
    auto options = greedy(50);
    options.stop = {"aaa"};
    const auto generation = generator.generate({65}, options);
    CHECK(generation.finish == FinishReason::stop);
    CHECK(generation.text.empty());
    CHECK(generation.ids.size() == 3);
  }
  SECTION("end of text") {
    Generator generator(model_that_writes(256), Tokenizer::bytes());
    auto options = greedy(30);
    options.ignore_end_of_text = false;
    const auto generation = generator.generate({65}, options);
    CHECK(generation.finish == FinishReason::end_of_text);
    CHECK(generation.ids == std::vector<int32_t>{256});
    CHECK(generation.text.empty());
  }
  SECTION("end of text, ignored") {
    Generator generator(model_that_writes(256), Tokenizer::bytes());
    CHECK(generator.generate({65}, greedy(30)).ids.size() == 30);
  }
  SECTION("the caller") {
    Generator generator(model_that_writes('b'), Tokenizer::bytes());
    const auto generation =
        generator.generate({65}, greedy(30), [](std::string_view) { return false; });
    CHECK(generation.text == "b");
    CHECK(generation.finish == FinishReason::stop);
  }
}

TEST_CASE("Generator: an empty prompt begins a document", "[generation]") {
  torch::manual_seed(3);
  Generator generator(DecoderLM(byte_decoder()), Tokenizer::bytes());
  CHECK(generator.generate({}, greedy(5)).ids == generator.generate({256}, greedy(5)).ids);
}
