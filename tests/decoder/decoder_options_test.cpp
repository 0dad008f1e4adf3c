#include "moe/decoder/decoder_options.h"

#include "moe/error.h"
#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions valid_options() {
  DecoderOptions options;
  options.vocab_size = 257;
  return options;
}

} // namespace

TEST_CASE("DecoderOptions: the defaults with a vocabulary are valid", "[decoder]") {
  CHECK_NOTHROW(validate(valid_options()));
}

TEST_CASE("DecoderOptions: impossible sizes are named with the allowed values", "[decoder]") {
  auto options = valid_options();
  SECTION("more experts per token than experts") {
    options.experts_per_token = 9;
    REQUIRE_THROWS_WITH(
        validate(options),
        ContainsSubstring("experts_per_token: 9") && ContainsSubstring("num_experts (8)"));
  }
  SECTION("heads that do not divide the width") {
    options.num_heads = 3;
    REQUIRE_THROWS_WITH(
        validate(options), ContainsSubstring("num_heads: 3") && ContainsSubstring("256"));
  }
  SECTION("key heads that do not divide the query heads") {
    options.num_kv_heads = 3;
    REQUIRE_THROWS_WITH(validate(options), ContainsSubstring("num_kv_heads: 3"));
  }
  SECTION("an odd head") {
    options.head_dim = 33;
    REQUIRE_THROWS_WITH(validate(options), ContainsSubstring("head_dim: 33"));
  }
  SECTION("a dense layer that is not there") {
    options.dense_layers = {4};
    REQUIRE_THROWS_WITH(
        validate(options), ContainsSubstring("no layer 4") && ContainsSubstring("0 to 3"));
  }
  SECTION("an unknown activation") {
    options.activation = "swish";
    REQUIRE_THROWS_WITH(
        validate(options), ContainsSubstring("'swish'") && ContainsSubstring("gelu_tanh"));
  }
}

TEST_CASE("count_parameters counts K of E experts as active", "[decoder]") {
  DecoderOptions options{
      .vocab_size = 10,
      .model_dim = 4,
      .num_layers = 2,
      .num_heads = 2,
      .num_experts = 3,
      .experts_per_token = 2,
      .expert_dim = 5,
      .dense_layers = {0},
      .dense_dim = 7};
  // embedding and head 2·10·4, final norm 4, per layer attention 4·4·4 + q and k norm 2·2 and
  // two norms 2·4, dense layer 3·4·7, MoE layer router 3·4 and per expert 3·4·5.
  const int64_t common = 80 + 4 + 2 * (64 + 4 + 8) + 84 + 12;
  CHECK(count_parameters(options).total == common + 3 * 60);
  CHECK(count_parameters(options).active == common + 2 * 60);
}
