#include "moe/evaluation/model_costs.h"

#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions small_options() {
  DecoderOptions options;
  options.vocab_size = 100;
  options.model_dim = 16;
  options.num_layers = 3;
  options.num_heads = 4;
  options.num_kv_heads = 2;
  options.num_experts = 8;
  options.experts_per_token = 2;
  options.expert_dim = 32;
  return options;
}

} // namespace

TEST_CASE("cache_elements counts keys and values of what a layer sees", "[evaluation]") {
  auto options = small_options();
  CHECK(cache_elements(options, 50) == 3 * 2 * (2 * 4) * 50);
  options.sliding_window = 20;
  CHECK(cache_elements(options, 50) == 3 * 2 * (2 * 4) * 20);
  CHECK(cache_elements(options, 10) == 3 * 2 * (2 * 4) * 10);
}

TEST_CASE("token_operations counts the matrices that a token passes", "[evaluation]") {
  auto options = small_options();
  const int64_t attention = 16 * 16 * 2 + 16 * 8 * 2;        // q, o, k, v
  const int64_t experts = 2 * 3 * 16 * 32 + 16 * 8;          // and the router
  const int64_t matrices = 3 * (attention + experts) + 1600; // and the head
  const int64_t scores = 3 * 2 * 16;                         // per token in view
  const int64_t found = token_operations(options, 1);
  CHECK(found >= 2 * (matrices + scores));
  CHECK(found < 2 * (matrices + scores) + 2 * 200); // norms are parameters, too
  CHECK(token_operations(options, 11) - found == 2 * scores * 10);
  options.tie_embeddings = true;
  CHECK(token_operations(options, 1) == found);
}

TEST_CASE("describe_routing says what the options say", "[evaluation]") {
  auto options = small_options();
  CHECK(
      describe_routing(options) ==
      "softmax over 8 experts, the 2 highest scores, weights divided by their sum");
  options.normalize_weights = false;
  options.routed_scaling_factor = 2.5;
  options.shared_expert_dim = 8;
  options.shared_expert_gate = true;
  CHECK(
      describe_routing(options) ==
      "softmax over 8 experts, the 2 highest scores, weights are the scores themselves, times "
      "2.5, and one shared expert for every token behind a sigmoid gate");
  options.num_experts = 0;
  CHECK(describe_routing(options) == "no experts");
}
