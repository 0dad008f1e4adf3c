#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "moe/decoder/decoder_lm.h"
#include "moe/decoder/decoder_tensors.h"
#include "tests/support/catch.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

using Change = std::function<void(DecoderOptions&)>;

// Every option of the blocks at a value that is not its default.
std::vector<std::pair<std::string, Change>> decoder_forms() {
  return {
      {"norms after", [](DecoderOptions& o) { o.norm_placement = NormPlacement::after; }},
      {"norms before and after",
       [](DecoderOptions& o) { o.norm_placement = NormPlacement::both; }},
      {"parallel, layer norm",
       [](DecoderOptions& o) {
         o.norm_placement = NormPlacement::parallel;
         o.norm.kind = NormKind::layer;
       }},
      {"layer norm with bias", [](DecoderOptions& o) { o.norm.kind = NormKind::layer_bias; }},
      {"norm over all heads, clipped",
       [](DecoderOptions& o) {
         o.attention.qk_norm_kind = QKNorm::full;
         o.attention.clip_qkv = 0.7;
       }},
      {"norm without weights, no positions in one layer",
       [](DecoderOptions& o) {
         o.attention.qk_norm_kind = QKNorm::unweighted;
         o.no_rope_layers = {1};
         o.attention.query_growth = 0.5;
         o.attention.query_growth_length = 3;
       }},
      {"norm after positions, partial rotary",
       [](DecoderOptions& o) {
         o.attention.qk_norm_after_rope = true;
         o.attention.head_dim = 8;
         o.rotary.dim = 4;
       }},
      {"sinks, window in one layer",
       [](DecoderOptions& o) {
         o.attention.sinks = true;
         o.attention.sliding_window = 4;
         o.full_attention_layers = {0};
       }},
      {"chunks, gate",
       [](DecoderOptions& o) {
         o.attention.chunk = 5;
         o.attention.gate = AttentionGate::sigmoid;
       }},
      {"gate per head, other heads",
       [](DecoderOptions& o) {
         o.attention.gate = AttentionGate::softplus_per_head;
         o.attention.head_dim = 4;
         o.layer_num_heads = {4, 6};
         o.attention.qkv_bias = true;
       }},
      {"latent attention",
       [](DecoderOptions& o) {
         o.attention.qk_norm = false;
         o.attention.num_kv_heads = 4;
         o.attention.head_dim = 6;
         o.rotary.dim = 2;
         o.attention.value_head_dim = 5;
         o.attention.key_value_latent_dim = 7;
         o.attention.query_latent_dim = 8;
         o.attention.bias = true;
         o.attention.query_growth = 0.5;
         o.attention.query_growth_length = 3;
         o.rotary.scaling = RotaryScaling::yarn;
         o.rotary.factor = 4.0;
         o.rotary.mscale_all_dim = 0.7;
         o.rotary.original_length = 12;
       }},
      {"multipliers and biases of the head",
       [](DecoderOptions& o) {
         o.embedding_multiplier = 2.0;
         o.residual_multiplier = 0.5;
         o.logits_multiplier = 0.3;
         o.attention.multiplier = 0.2;
         o.head_bias = true;
       }},
      {"sigmoid scores, selection bias, groups",
       [](DecoderOptions& o) {
         o.router.score = RouterScore::sigmoid;
         o.router.selection_bias = true;
         o.router.selection = RouterSelection::groups_by_top2;
         o.router.groups = 2;
         o.router.groups_kept = 1;
         o.moe_output_norm = true;
       }},
      {"weights on the input, shared expert halved",
       [](DecoderOptions& o) {
         o.router.weights_on_input = true;
         o.shared_expert_dim = 8;
         o.moe_output_multiplier = 0.5;
         o.router.logit_cap = 1.0;
       }},
      {"cosine gate, another score, softmax of the chosen",
       [](DecoderOptions& o) {
         o.router.gate = RouterGate::cosine;
         o.router.cosine_dim = 5;
         o.router.noise = RouterNoise::learned;
         o.router.score = RouterScore::sqrt_softplus;
         o.router.weighting = RouterWeighting::softmax;
         o.router.capacity_factor = 0.5;
       }},
      {"routing by hash",
       [](DecoderOptions& o) { o.router.selection = RouterSelection::hash; }},
      {"clamped experts with biases",
       [](DecoderOptions& o) {
         o.expert.limit = 0.4;
         o.expert.sigmoid_scale = 1.7;
         o.expert.offset = 1.0;
         o.expert_bias = true;
         o.router.bias = true;
       }},
      {"positions of each layer",
       [](DecoderOptions& o) {
         o.layer_rope_theta = {100.0, 5000.0};
         o.layer_rotary_dim = {2, 4};
         o.rotary.scaling = RotaryScaling::llama3;
         o.rotary.factor = 3.0;
         o.rope_unscaled_layers = {1};
       }},
      {"longrope",
       [](DecoderOptions& o) {
         o.rotary.scaling = RotaryScaling::longrope;
         o.rotary.original_length = 9;
         o.rotary.short_factors = {1.0, 2.0};
         o.rotary.long_factors = {3.0, 5.0};
       }},
  };
}

DecoderLM make_decoder(const Change& change) {
  auto options = tiny_decoder();
  change(options);
  DecoderLM model(options);
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.value().dim() == 1) {
      item.value().normal_(item.key().ends_with("norm.weight") ? 1.0 : 0.0, 0.3);
    }
  }
  for (auto& item : model->named_buffers()) {
    item.value().normal_();
  }
  model->eval();
  return model;
}

} // namespace

TEST_CASE("DecoderLM: every form of block is the same token by token", "[decoder]") {
  torch::manual_seed(0);
  const torch::NoGradGuard no_grad;
  const auto ids = torch::randint(0, 23, {2, 14}, torch::kInt64);
  for (const auto& [name, change] : decoder_forms()) {
    CAPTURE(name);
    DecoderLM model = make_decoder(change);
    CHECK_FALSE(has_plain_form(model->options));
    auto state = model->make_state(2, 14);
    for (const auto& [first, length] :
         {std::make_pair(0, 6), {6, 1}, {7, 3}, {10, 1}, {11, 3}}) {
      const auto hidden = model->forward(ids.slice(1, first, first + length), state).hidden;
      // Frequencies of longrope depend on the length so far.
      const auto whole = model->forward(ids.slice(1, 0, first + length)).hidden;
      CHECK_THAT(model->logits(hidden), AllClose(model->logits(whole).slice(1, first), 2e-5));
    }
    CHECK(state.length == 14);
  }
}

TEST_CASE("DecoderLM: every form has the tensors that checkpoints expect", "[decoder]") {
  for (const auto& [name, change] : decoder_forms()) {
    CAPTURE(name);
    DecoderLM model = make_decoder(change);
    std::vector<NamedShape> actual;
    int64_t parameters = 0;
    for (const auto& item : model->named_parameters()) {
      actual.push_back({item.key(), item.value().sizes().vec()});
      parameters += item.value().numel();
    }
    for (const auto& item : model->named_buffers()) {
      CHECK(is_buffer(item.key()));
      actual.push_back({item.key(), item.value().sizes().vec()});
    }
    CHECK(parameters == count_parameters(model->options).total);
    auto expected = decoder_tensors(model->options);
    const auto by_name = [](const NamedShape& a, const NamedShape& b) {
      return a.name < b.name;
    };
    std::sort(actual.begin(), actual.end(), by_name);
    std::sort(expected.begin(), expected.end(), by_name);
    CHECK((actual == expected));
  }
}

TEST_CASE("DecoderLM: the operands of the head give its logits", "[decoder]") {
  torch::manual_seed(1);
  const torch::NoGradGuard no_grad;
  auto model = make_decoder([](DecoderOptions& options) {
    options.head_bias = true;
    options.logits_multiplier = 0.3;
    options.tie_embeddings = true;
  });
  const auto hidden = torch::randn({2, 3, 16});
  const auto head = model->head_operands(hidden);
  CHECK_THAT(torch::matmul(head.rows, head.weight.t()), AllClose(model->logits(hidden), 1e-5));
  const auto plain = make_decoder([](DecoderOptions&) {});
  CHECK(plain->head_operands(hidden).rows.is_same(hidden));
}

TEST_CASE("DecoderLM: a trace is the same pass with what lies between", "[decoder]") {
  torch::manual_seed(2);
  const torch::NoGradGuard no_grad;
  auto model =
      make_decoder([](DecoderOptions& options) { options.embedding_multiplier = 3.0; });
  const auto ids = torch::randint(0, 23, {1, 5}, torch::kInt64);
  const auto traced = model->trace(ids);
  REQUIRE(traced.hidden_states.size() == 3);
  CHECK_THAT(traced.hidden, SameBits(model->forward(ids).hidden));
  CHECK_THAT(traced.hidden_states[0], SameBits(model->embedding(ids) * 3.0));
  CHECK_THAT(traced.hidden_states[2], SameBits(traced.hidden));
  CHECK(model->forward(ids).hidden_states.empty());
}

TEST_CASE("DecoderLM: a trace has the inputs of the experts, recomputed or not", "[decoder]") {
  auto model = make_decoder([](DecoderOptions&) {});
  model->recompute = true;
  const auto traced = model->trace(torch::randint(0, 23, {1, 5}, torch::kInt64));
  REQUIRE_FALSE(traced.expert_inputs.empty());
  for (const auto& input : traced.expert_inputs) {
    REQUIRE(input.defined());
    CHECK(input.sizes() == torch::IntArrayRef({1, 5, 16}));
  }
}
