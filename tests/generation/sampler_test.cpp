#include "moe/generation/sampler.h"

#include <cmath>
#include <limits>
#include <map>

#include "moe/generation/stop_text.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

SamplerOptions plain() {
  SamplerOptions options;
  options.temperature = 1.0;
  options.top_k = 0;
  options.top_p = 1.0;
  return options;
}

/// Share of each id among many draws.
std::map<int32_t, double> shares(
    const SamplerOptions& options,
    const std::vector<float>& logits,
    const std::vector<int32_t>& history = {}) {
  Sampler sampler(options);
  std::map<int32_t, double> result;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    auto copy = logits;
    result[sampler.sample(copy, history)] += 1.0 / kDraws;
  }
  return result;
}

std::vector<float> logs(const std::vector<double>& odds) {
  std::vector<float> logits;
  for (const double o : odds) {
    logits.push_back(static_cast<float>(std::log(o)));
  }
  return logits;
}

} // namespace

TEST_CASE("Sampler: draws in proportion to the probabilities", "[generation]") {
  const auto result = shares(plain(), logs({0.1, 0.6, 0.3}));
  CHECK_THAT(result.at(0), WithinAbs(0.1, 0.02));
  CHECK_THAT(result.at(1), WithinAbs(0.6, 0.02));
  CHECK_THAT(result.at(2), WithinAbs(0.3, 0.02));
}

TEST_CASE(
    "Sampler: temperature 0 takes the most likely, the lowest id among equals",
    "[generation]") {
  auto options = plain();
  options.temperature = 0.0;
  Sampler sampler(options);
  std::vector<float> logits{1.0f, 3.0f, 3.0f, 2.0f};
  CHECK(sampler.sample(logits, {}) == 1);
}

TEST_CASE("Sampler: temperature sharpens", "[generation]") {
  auto options = plain();
  options.temperature = 0.5;
  const auto result = shares(options, logs({0.2, 0.8})); // odds 1 : 16
  CHECK_THAT(result.at(0), WithinAbs(1.0 / 17.0, 0.01));
}

TEST_CASE("Sampler: top_k, top_p and min_p keep what they say", "[generation]") {
  auto options = plain();
  const auto logits = logs({0.05, 0.4, 0.3, 0.25});
  SECTION("top_k") {
    options.top_k = 2;
    const auto result = shares(options, logits);
    REQUIRE(result.size() == 2);
    CHECK_THAT(result.at(1), WithinAbs(4.0 / 7.0, 0.02));
    CHECK(result.count(2) == 1);
  }
  SECTION("top_p keeps the token that crosses the sum") {
    options.top_p = 0.6;
    const auto result = shares(options, logits);
    REQUIRE(result.size() == 2);
    CHECK_THAT(result.at(2), WithinAbs(3.0 / 7.0, 0.02));
  }
  SECTION("min_p") {
    options.min_p = 0.7;
    const auto result = shares(options, logits);
    REQUIRE(result.size() == 2); // 0.3 / 0.4 = 0.75 stays, 0.25 / 0.4 = 0.625 goes
    CHECK(result.count(2) == 1);
  }
  SECTION("a tiny top_p keeps the first") {
    options.top_p = 1e-9;
    CHECK(shares(options, logits).size() == 1);
  }
}

TEST_CASE("Sampler: the repetition penalty lowers both signs, once per token", "[generation]") {
  auto options = plain();
  options.temperature = 0.0;
  options.repetition_penalty = 2.0;
  Sampler sampler(options);
  std::vector<float> positive{4.0f, 3.0f};
  CHECK(sampler.sample(positive, std::vector<int32_t>{0, 0}) == 1);
  CHECK(positive[0] == 2.0f);
  std::vector<float> negative{-2.0f, -3.0f};
  CHECK(sampler.sample(negative, std::vector<int32_t>{0}) == 1);
  CHECK(negative[0] == -4.0f);
}

TEST_CASE("Sampler: the same seed repeats, another differs", "[generation]") {
  const auto draw = [](int64_t seed) {
    auto options = plain();
    options.seed = seed;
    Sampler sampler(options);
    std::vector<int32_t> ids;
    for (int i = 0; i < 50; ++i) {
      std::vector<float> logits(100, 0.0f);
      ids.push_back(sampler.sample(logits, ids));
    }
    return ids;
  };
  CHECK(draw(7) == draw(7));
  CHECK(draw(7) != draw(8));
}

TEST_CASE("Sampler: logits that are no numbers are an error", "[generation]") {
  Sampler sampler(plain());
  std::vector<float> nan{0.0f, std::numeric_limits<float>::quiet_NaN()};
  REQUIRE_THROWS_WITH(sampler.sample(nan, {}), ContainsSubstring("not a number"));
  std::vector<float> infinite{0.0f, std::numeric_limits<float>::infinity()};
  REQUIRE_THROWS_WITH(sampler.sample(infinite, {}), ContainsSubstring("inf"));
}

TEST_CASE("Sampler: a history of tokens without a logit is an error", "[generation]") {
  auto options = plain();
  options.repetition_penalty = 2.0;
  Sampler sampler(options);
  const std::vector<float> before{1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f};
  auto memory = before;
  const auto logits = std::span(memory).subspan(1, 4);
  REQUIRE_THROWS_WITH(
      sampler.sample(logits, std::vector<int32_t>{0, 4}),
      ContainsSubstring("token 4") && ContainsSubstring("4 logits"));
  REQUIRE_THROWS_WITH(
      sampler.sample(logits, std::vector<int32_t>{-1, 0}), ContainsSubstring("token -1"));
  CHECK(memory == before);
}

TEST_CASE("StopText: ends before the text, however it is cut into pieces", "[generation]") {
  const std::string text = "one two END three";
  for (size_t size = 1; size <= text.size(); ++size) {
    StopText stop({"END", "never"});
    std::string out;
    for (size_t begin = 0; begin < text.size(); begin += size) {
      out += stop.push(text.substr(begin, size));
    }
    out += stop.finish();
    CHECK(stop.found());
    CHECK(out == "one two ");
  }
}

TEST_CASE("StopText: what only looked like a beginning comes out", "[generation]") {
  StopText stop({"ENDE"});
  CHECK(stop.push("a END") == "a ");
  CHECK(stop.push("E").empty());
  CHECK(stop.found());
  StopText other({"ENDE"});
  CHECK(other.push("a END") == "a ");
  CHECK(other.push("x") == "ENDx");
  CHECK(other.push(" EN") == " ");
  CHECK(other.finish() == "EN");
  CHECK_FALSE(other.found());
  CHECK(StopText({""}).push("text") == "text");
}
