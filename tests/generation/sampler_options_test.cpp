#include "moe/generation/sampler_options.h"

#include <limits>

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

template <class Value>
std::string refusal(Value SamplerOptions::*field, Value value) {
  SamplerOptions options;
  options.*field = value;
  try {
    validate(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

} // namespace

TEST_CASE("SamplerOptions: the defaults and the limits are valid", "[generation]") {
  using O = SamplerOptions;
  CHECK_NOTHROW(validate(SamplerOptions()));
  CHECK(refusal(&O::temperature, 0.0).empty());
  CHECK(refusal(&O::top_k, int64_t{0}).empty());
  CHECK(refusal(&O::top_p, 1.0).empty());
  CHECK(refusal(&O::min_p, 1.0).empty());
}

TEST_CASE("SamplerOptions: impossible values are named with the allowed ones", "[generation]") {
  using O = SamplerOptions;
  CHECK(
      refusal(&O::max_new_tokens, int64_t{0}) ==
      "max_new_tokens: 0 is not possible; at least 1");
  CHECK(
      refusal(&O::temperature, -1.0) ==
      "temperature: -1 is not possible; a number of at least 0");
  CHECK(refusal(&O::top_k, int64_t{-1}) == "top_k: -1 is not possible; at least 0");
  CHECK(refusal(&O::top_p, 0.0) == "top_p: 0 is not possible; a number above 0, up to 1");
  CHECK(refusal(&O::min_p, 1.5) == "min_p: 1.5 is not possible; a number from 0 to 1");
  CHECK(
      refusal(&O::repetition_penalty, 0.0) ==
      "repetition_penalty: 0 is not possible; a number above 0");
  CHECK_THAT(
      refusal(&O::stop, std::vector<std::string>{"a", ""}),
      ContainsSubstring("stop: '' is not possible"));
  CHECK(refusal(&O::seed, int64_t{-1}) == "seed: -1 is not possible; at least 0");
  for (const auto field : {&O::temperature, &O::top_p, &O::min_p, &O::repetition_penalty}) {
    CHECK_FALSE(refusal(field, std::numeric_limits<double>::quiet_NaN()).empty());
    CHECK_FALSE(refusal(field, std::numeric_limits<double>::infinity()).empty());
  }
}
