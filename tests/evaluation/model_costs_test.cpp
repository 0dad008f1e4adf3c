#include "moe/evaluation/model_costs.h"

#include "tests/support/catch.h"

using namespace moe;

namespace {

DecoderOptions small_options() {
  DecoderOptions options;
  options.vocab_size = 100;
  options.model_dim = 16;
  options.num_layers = 3;
  options.attention.num_heads = 4;
  options.attention.num_kv_heads = 2;
  options.num_experts = 8;
  options.experts_per_token = 2;
  options.expert_dim = 32;
  return options;
}

} // namespace

TEST_CASE("cache_elements counts keys and values of what a layer sees", "[evaluation]") {
  auto options = small_options();
  CHECK(cache_elements(options, 50) == 3 * 2 * (2 * 4) * 50);
  options.attention.sliding_window = 20; // all tokens are kept
  CHECK(cache_elements(options, 50) == 3 * 2 * (2 * 4) * 50);
  auto latent = small_options();
  latent.attention.num_kv_heads = 0;
  latent.attention.head_dim = 8;
  latent.rotary.dim = 4;
  latent.attention.key_value_latent_dim = 10;
  CHECK(cache_elements(latent, 50) == 3 * (10 + 4) * 50);
}

TEST_CASE("token_operations follows windows, chunks and latent vectors", "[evaluation]") {
  auto options = small_options();
  options.attention.sliding_window = 5;
  const int64_t at_window = token_operations(options, 5);
  CHECK(token_operations(options, 500) == at_window);
  options.full_attention_layers = {1};
  CHECK(token_operations(options, 15) - at_window == 2 * 2 * 16 * 10);
  auto chunked = small_options();
  chunked.attention.chunk = 4;
  CHECK(token_operations(chunked, 9) == token_operations(chunked, 1));
  CHECK(token_operations(chunked, 12) - token_operations(chunked, 9) == 3 * 2 * 2 * 16 * 3);
  auto latent = small_options();
  latent.attention.num_kv_heads = 0;
  latent.attention.head_dim = 8;
  latent.rotary.dim = 4;
  latent.attention.key_value_latent_dim = 10;
  CHECK(
      token_operations(latent, 11) - token_operations(latent, 1) ==
      3 * 2 * 4 * (10 + 4 + 10) * 10);
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

TEST_CASE("describe_attention says what heads are and what they see", "[evaluation]") {
  auto options = small_options();
  CHECK(describe_attention(options) == "4 query heads, 2 key and value heads of 4");
  options.layer_num_heads = {4, 8, 6};
  options.attention.head_dim = 4;
  options.attention.sliding_window = 9;
  options.attention.sinks = true;
  CHECK(
      describe_attention(options) ==
      "4 to 8 query heads, 2 key and value heads of 4, window of 9, with sinks");
  auto chunked = small_options();
  chunked.attention.chunk = 16;
  chunked.full_attention_layers = {2};
  chunked.no_rope_layers = {2};
  CHECK(
      describe_attention(chunked) ==
      "4 query heads, 2 key and value heads of 4, chunks of 16 in 2 of 3 layers, no positions "
      "in 1 of 3 layers");
  auto latent = small_options();
  latent.attention.num_kv_heads = 0;
  latent.attention.head_dim = 8;
  latent.rotary.dim = 4;
  latent.attention.value_head_dim = 6;
  latent.attention.key_value_latent_dim = 10;
  latent.attention.query_latent_dim = 12;
  CHECK(
      describe_attention(latent) ==
      "4 heads of 8 with values of 6, from a latent vector of 10 and a turning key of 4 per "
      "token, queries from one of 12");
}

TEST_CASE("describe_routing says what the options say", "[evaluation]") {
  auto options = small_options();
  CHECK(
      describe_routing(options) ==
      "softmax over 8 experts, the 2 highest scores, weights divided by their sum");
  options.router.normalize_weights = false;
  options.router.routed_scaling_factor = 2.5;
  options.shared_expert_dim = 8;
  options.shared_expert_gate = true;
  CHECK(
      describe_routing(options) ==
      "softmax over 8 experts, the 2 highest scores, weights are the scores themselves, times "
      "2.5, and one shared expert for every token behind a sigmoid gate");
  options.num_experts = 0;
  CHECK(describe_routing(options) == "no experts");
  auto grouped = small_options();
  grouped.router.score = RouterScore::sigmoid;
  grouped.router.selection = RouterSelection::groups_by_top2;
  grouped.router.groups = 4;
  grouped.router.groups_kept = 2;
  grouped.router.selection_bias = true;
  CHECK(
      describe_routing(grouped) ==
      "sigmoid over 8 experts, within the 2 best of 4 groups by their two best scores, the 2 "
      "highest scores with a bias for the choice, weights divided by their sum");
  auto mixer = small_options();
  mixer.router.weighting = RouterWeighting::sparsemixer;
  CHECK(describe_routing(mixer) == "sparsemixer over 8 experts, 2 of them one after the other");
  auto by_hash = small_options();
  by_hash.router.selection = RouterSelection::hash;
  by_hash.router.weighting = RouterWeighting::softmax;
  CHECK(
      describe_routing(by_hash) ==
      "softmax over 8 experts, 2 of them by the token id, weights are the softmax of their "
      "logits");
  auto choosing = small_options();
  choosing.router.selection = RouterSelection::expert_choice;
  choosing.router.gate = RouterGate::cosine;
  choosing.router.normalize_weights = false;
  CHECK(
      describe_routing(choosing) ==
      "softmax of cosines over 8 experts, each of which chooses its best tokens, 2 experts a "
      "token on average, weights are the scores themselves");
  auto training = small_options();
  training.router.selection = RouterSelection::sinkhorn;
  training.router.jitter = 0.01;
  training.router.noise = RouterNoise::learned;
  training.router.capacity_factor = 1.25;
  CHECK(
      describe_routing(training) ==
      "softmax over 8 experts, the 2 highest scores, balanced over the batch in training, "
      "weights divided by their sum; in training inputs jittered by 0.01, learned noise, at "
      "most 1.25 times the even load, the rest dropped by position");
}
