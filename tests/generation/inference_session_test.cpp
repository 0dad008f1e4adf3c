#include "moe/generation/inference_session.h"

#include <limits>

#include "moe/checkpoint/state_dict.h"
#include "moe/generation/packed_decoder.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;
using namespace moe::testing;

namespace {

/// A model whose weights are not small: its logits tell mistakes from rounding.
DecoderLM lively_model(const DecoderOptions& options) {
  torch::manual_seed(3);
  DecoderLM model(options);
  const torch::NoGradGuard no_grad;
  for (auto& parameter : model->parameters()) {
    parameter.add_(torch::randn_like(parameter) * 0.2);
  }
  for (auto& buffer : model->buffers()) { // selection biases
    buffer.add_(torch::randn_like(buffer) * 0.2);
  }
  model->eval();
  return model;
}

std::vector<int32_t> some_ids(int64_t count, int64_t vocab_size) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < count; ++i) {
    ids.push_back(static_cast<int32_t>((i * i * 7 + i * 3 + 1) % vocab_size));
  }
  return ids;
}

/// Logits [S, V] of the modules, without a cache; for weights of another type than float32
/// with keys and values that were rounded in one.
torch::Tensor module_logits(
    DecoderLM& model,
    const std::vector<int32_t>& ids,
    WeightType weights = WeightType::float32) {
  const torch::NoGradGuard no_grad;
  const auto input = torch::tensor(std::vector<int64_t>(ids.begin(), ids.end())).unsqueeze(0);
  if (weights == WeightType::float32) {
    return model->logits(model->forward(input).hidden)[0];
  }
  auto state = model->make_state(/*batch_size=*/1, input.size(1));
  for (auto& layer : state.layers) {
    layer = std::make_unique<KeyValueCache>(
        /*batch_size=*/1,
        resolved_num_kv_heads(model->options),
        input.size(1),
        resolved_head_dim(model->options),
        torch::kFloat16);
  }
  return model->logits(model->forward(input, state).hidden)[0];
}

torch::Tensor copy_of(std::span<const float> logits) {
  return torch::tensor(std::vector<float>(logits.begin(), logits.end()));
}

std::vector<DecoderOptions> packed_forms() {
  std::vector<DecoderOptions> forms;
  forms.push_back(tiny_decoder());
  auto grouped = tiny_decoder();
  grouped.attention.num_kv_heads = 1;
  grouped.attention.qk_norm = false;
  grouped.attention.bias = true;
  grouped.attention.sliding_window = 5;
  grouped.tie_embeddings = true;
  forms.push_back(grouped);
  auto shared = tiny_decoder();
  shared.shared_expert_dim = 24;
  shared.shared_expert_gate = true;
  shared.dense_layers = {0};
  shared.dense_dim = 40;
  shared.router.normalize_weights = false;
  shared.router.routed_scaling_factor = 1.7;
  forms.push_back(shared);
  auto ungated = tiny_decoder();
  ungated.expert.gated = false;
  ungated.expert.activation = Activation::relu_squared;
  ungated.shared_expert_dim = 72;
  ungated.experts_per_token = ungated.num_experts;
  forms.push_back(ungated);
  auto dropping = tiny_decoder(); // in training only
  dropping.experts_per_token = 1;
  dropping.router.normalize_weights = false;
  dropping.router.capacity_factor = 0.5;
  dropping.router.jitter = 0.3;
  forms.push_back(dropping);
  auto multiplied = tiny_decoder();
  multiplied.embedding_multiplier = 1.5;
  multiplied.residual_multiplier = 0.6;
  multiplied.logits_multiplier = 0.3;
  multiplied.attention.multiplier = 0.4;
  multiplied.head_bias = true;
  multiplied.attention.qkv_bias = true;
  multiplied.attention.qk_norm = false;
  forms.push_back(multiplied);
  auto positions = tiny_decoder();
  positions.num_layers = 4;
  positions.attention.num_kv_heads = 2;
  positions.attention.qk_norm_kind = QKNorm::full;
  positions.rotary.dim = 2;
  positions.no_rope_layers = {1};
  positions.attention.sliding_window = 4;
  positions.full_attention_layers = {1, 3};
  positions.rotary.scaling = RotaryScaling::yarn;
  positions.rotary.factor = 3.0;
  positions.rotary.original_length = 16;
  positions.rope_unscaled_layers = {2};
  positions.layer_rope_theta = {100.0, 100.0, 100.0, 5000.0};
  forms.push_back(positions);
  auto biased = tiny_decoder(); // as gpt_oss
  biased.attention.bias = true;
  biased.attention.sinks = true;
  biased.expert_bias = true;
  biased.router.bias = true;
  biased.router.weighting = RouterWeighting::softmax;
  biased.router.score = RouterScore::sigmoid;
  biased.expert.limit = 0.5;
  biased.expert.sigmoid_scale = 1.702;
  biased.expert.offset = 1.0;
  biased.rotary.scaling = RotaryScaling::linear;
  biased.rotary.factor = 2.0;
  forms.push_back(biased);
  auto grouped_choice = tiny_decoder(); // as deepseek_v3 chooses
  grouped_choice.router.score = RouterScore::sigmoid;
  grouped_choice.router.selection = RouterSelection::groups_by_top2;
  grouped_choice.router.groups = 2;
  grouped_choice.router.selection_bias = true;
  grouped_choice.router.normalize_minimum = 0.9;
  grouped_choice.feed_forward_bias = true;
  grouped_choice.shared_expert_dim = 20;
  grouped_choice.dense_layers = {0};
  forms.push_back(grouped_choice);
  return forms;
}

} // namespace

TEST_CASE("packed session: the logits of the modules, token by token", "[generation]") {
  for (const auto& options : packed_forms()) {
    for (const auto type : {WeightType::float32, WeightType::bfloat16, WeightType::int8}) {
      CAPTURE(
          weight_type_name(type), options.attention.num_kv_heads, options.shared_expert_dim);
      auto model = lively_model(options);
      const auto session = make_inference_session(model, type);
      CHECK(
          session->description() ==
          "packed " + std::string(weight_type_name(type)) + " weights");
      round_weights(model, type);
      const auto ids = some_ids(40, options.vocab_size);
      const auto expected = module_logits(model, ids, type); // [S, V]
      // The vector of int8 products has 15 bits; a key or value at the middle between two of
      // float16 may be rounded either way.
      const double tolerance = type == WeightType::int8       ? 2e-3
                               : type == WeightType::bfloat16 ? 2e-4
                                                              : 2e-5;
      for (const int64_t prompt : {1, 5, 30}) {
        session->begin(1, 48);
        const auto first = session->prefill(0, {ids.data(), static_cast<size_t>(prompt)});
        CHECK(relative_error(copy_of(first), expected[prompt - 1]) < tolerance);
        for (int64_t i = prompt; i < 40; ++i) {
          const auto logits = session->decode({&ids[i], 1});
          CAPTURE(prompt, i);
          CHECK(relative_error(copy_of(logits), expected[i]) < tolerance);
        }
      }
    }
  }
}

TEST_CASE("packed session: sequences of different lengths at once", "[generation]") {
  const auto options = packed_forms()[2];
  auto model = lively_model(options);
  const auto session = make_inference_session(model);
  session->begin(/*num_sequences=*/4, /*capacity=*/48);
  std::vector<std::vector<int32_t>> texts;
  for (int64_t i = 0; i < 4; ++i) {
    auto ids = some_ids(3 + 6 * i, options.vocab_size);
    ids[0] = static_cast<int32_t>(i);
    session->prefill(i, ids);
    texts.push_back(ids);
  }
  for (int step = 0; step < 5; ++step) {
    std::vector<int32_t> next;
    for (auto& text : texts) {
      text.push_back((text.back() * 5 + step) % static_cast<int32_t>(options.vocab_size));
      next.push_back(text.back());
    }
    const auto logits = copy_of(session->decode(next)).view({4, -1});
    for (int64_t i = 0; i < 4; ++i) {
      CAPTURE(step, i);
      CHECK(relative_error(logits[i], module_logits(model, texts[i])[-1]) < 2e-5);
    }
  }
}

TEST_CASE("packed session: prompts that continue a sequence, long and short", "[generation]") {
  auto model = lively_model(tiny_decoder());
  const auto session = make_inference_session(model, WeightType::bfloat16);
  round_weights(model, WeightType::bfloat16);
  const auto ids = some_ids(44, model->options.vocab_size);
  session->begin(1, 48);
  session->prefill(0, {ids.data(), 12});
  session->prefill(0, {ids.data() + 12, 20});
  const auto logits = session->prefill(0, {ids.data() + 32, 3});
  const auto expected =
      module_logits(model, {ids.begin(), ids.begin() + 35}, WeightType::bfloat16)[-1];
  CHECK(relative_error(copy_of(logits), expected) < 2e-4);
  session->prefill(0, {ids.data() + 35, 9});
  session->decode({ids.data(), 1});
  session->decode({ids.data(), 1});
  session->decode({ids.data(), 1});
  session->decode({ids.data(), 1});
  CHECK_THROWS_WITH(session->decode({ids.data(), 1}), ContainsSubstring("no room"));
}

TEST_CASE("open_inference_session: a folder gives what its model does", "[generation]") {
  const TemporaryFolder files;
  const auto type = GENERATE(WeightType::float32, WeightType::bfloat16, WeightType::int8);
  int number = 0;
  for (const auto& options : packed_forms()) {
    const auto model = lively_model(options);
    const auto path = files.path() / std::to_string(number++);
    save_model_folder(path, options, state_dict(*model));
    const ModelFolder folder(path);
    CAPTURE(weight_type_name(type));
    const auto opened = open_inference_session(folder, type);
    const auto made = make_inference_session(model, type);
    CHECK(opened->description() == made->description());
    const auto ids = some_ids(12, options.vocab_size);
    for (const auto& session : {opened.get(), made.get()}) {
      session->begin(1, 48);
    }
    CHECK(torch::equal(copy_of(opened->prefill(0, ids)), copy_of(made->prefill(0, ids))));
    CHECK(torch::equal(
        copy_of(opened->decode({ids.data(), 1})), copy_of(made->decode({ids.data(), 1}))));
  }
}

TEST_CASE("open_inference_session: modules for what is not packed", "[generation]") {
  const TemporaryFolder files;
  auto options = tiny_decoder();
  options.attention.key_value_latent_dim = 8;
  options.attention.num_kv_heads = 0;
  options.rotary.dim = 2;
  options.attention.qk_norm = false;
  const auto model = lively_model(options);
  save_model_folder(files.path() / "latent", options, state_dict(*model));
  const ModelFolder folder(files.path() / "latent");
  CHECK(open_inference_session(folder)->description() == "modules (key_value_latent_dim)");
  REQUIRE_THROWS_WITH(
      open_inference_session(folder, WeightType::int8),
      ContainsSubstring("int8") && ContainsSubstring("key_value_latent_dim"));
}

TEST_CASE("make_inference_session: modules for what is not packed", "[generation]") {
  auto options = tiny_decoder();
  std::string obstacle;
  SECTION("norms after the parts") {
    options.norm_placement = NormPlacement::after;
    obstacle = "norm_placement";
  }
  SECTION("routing by hash") {
    options.router.selection = RouterSelection::hash;
    obstacle = "router_selection";
  }
  SECTION("noise, which has weights") {
    options.router.noise = RouterNoise::learned;
    obstacle = "router_noise";
  }
  auto model = lively_model(options);
  const auto session = make_inference_session(model);
  CHECK(session->description() == "modules (" + obstacle + ")");
  const auto ids = some_ids(20, options.vocab_size);
  session->begin(1, 48);
  session->prefill(0, {ids.data(), 19});
  const auto logits = session->decode({&ids[19], 1});
  CHECK(relative_error(copy_of(logits), module_logits(model, ids)[-1]) < 1e-5);
  REQUIRE_THROWS_WITH(
      make_inference_session(model, WeightType::int8),
      ContainsSubstring("int8") && ContainsSubstring(obstacle));
}

TEST_CASE("make_inference_session: none where experts choose their tokens", "[generation]") {
  auto options = tiny_decoder();
  options.router.selection = RouterSelection::expert_choice;
  options.router.sees_future = true;
  REQUIRE_THROWS_WITH(
      make_inference_session(lively_model(options)),
      ContainsSubstring("router_selection") && ContainsSubstring("tokens after it"));
}

TEST_CASE("module session: positions that change when a sequence grows", "[generation]") {
  auto options = tiny_decoder();
  options.rotary.scaling = RotaryScaling::longrope;
  options.rotary.factor = 3.0;
  options.rotary.original_length = 16;
  options.rotary.short_factors = {1.0, 1.1};
  options.rotary.long_factors = {1.0, 4.0};
  auto model = lively_model(options);
  const auto session = make_inference_session(model);
  CHECK(session->description() == "modules (rope_scaling)");
  const auto ids = some_ids(24, options.vocab_size);
  session->begin(1, 48);
  session->prefill(0, {ids.data(), 10});
  for (int64_t i = 10; i < 24; ++i) {
    const auto logits = copy_of(session->decode({&ids[i], 1}));
    CAPTURE(i);
    CHECK(
        relative_error(logits, module_logits(model, {ids.begin(), ids.begin() + i + 1})[-1]) <
        1e-5);
  }
}

TEST_CASE("packed session: weights that are read for a token", "[generation]") {
  auto options = tiny_decoder();
  options.model_dim = 128; // rows of int8 are padded to 64
  options.expert_dim = 64;
  options.dense_dim = 64;
  const DecoderLM model(options);
  const auto session = make_inference_session(model);
  const auto count = count_parameters(options);
  CHECK(session->weight_bytes() < count.total * 4);
  CHECK(session->weight_bytes() > count.total * 4 * 9 / 10); // all but norms
  CHECK(session->active_weight_bytes() < session->weight_bytes());
  const auto small = make_inference_session(model, WeightType::int8);
  CHECK(small->weight_bytes() < session->weight_bytes() * 3 / 10);
}

TEST_CASE("packed session: the same bits for any number of threads", "[generation][threads]") {
  const auto options = packed_forms()[2];
  auto model = lively_model(options);
  const auto ids = some_ids(20, options.vocab_size);
  const int threads = at::get_num_threads();
  std::vector<torch::Tensor> results;
  for (const int count : {1, 2, 3}) {
    at::set_num_threads(count);
    const auto session = make_inference_session(model, WeightType::int8);
    session->begin(1, 48);
    for (const int32_t& id : ids) {
      session->prefill(0, {&id, 1});
    }
    results.push_back(copy_of(session->decode({ids.data(), 1})));
  }
  at::set_num_threads(threads);
  CHECK(torch::equal(results[0], results[1]));
  CHECK(torch::equal(results[0], results[2]));
}

TEST_CASE("packed session: float32 weights are those of a model that trains", "[generation]") {
  for (const auto& options : packed_forms()) {
    CAPTURE(options.attention.num_kv_heads, options.shared_expert_dim, options.router.score);
    auto model = lively_model(options);
    const auto live = make_inference_session(model);
    const auto snapshot = make_inference_session(model, WeightType::bfloat16);
    const auto ids = some_ids(31, options.vocab_size);
    const auto logits_of = [&](InferenceSession& session, int64_t prompt) {
      session.begin(1, 48);
      session.prefill(0, {ids.data(), static_cast<size_t>(prompt)});
      return copy_of(session.decode({&ids[prompt], 1}));
    };
    const auto old = logits_of(*snapshot, 5);
    logits_of(*live, 5);
    {
      const torch::NoGradGuard no_grad;
      for (auto& parameter : model->parameters()) {
        parameter.add_(torch::randn_like(parameter) * 0.2);
      }
      for (auto& buffer : model->buffers()) {
        buffer.add_(torch::randn_like(buffer) * 0.2);
      }
    }
    const auto expected = module_logits(model, ids); // [S, V]
    for (const int64_t prompt : {5, 30}) {           // by the token loop and by blocks
      CAPTURE(prompt);
      CHECK(relative_error(logits_of(*live, prompt), expected[prompt]) < 2e-5);
    }
    CHECK_THAT(logits_of(*snapshot, 5), SameBits(old));
  }
}

TEST_CASE("packed session: a model of another type needs another session", "[generation]") {
  auto model = lively_model(tiny_decoder());
  const auto session = make_inference_session(model);
  model->to(torch::kFloat64);
  REQUIRE_THROWS_WITH(
      session->begin(1, 48),
      ContainsSubstring("Double") && ContainsSubstring("another session"));
}

TEST_CASE("inference session: impossible arguments are named", "[generation]") {
  auto options = tiny_decoder();
  auto weights = WeightType::float32;
  SECTION("packed float32") {}
  SECTION("packed int8") {
    weights = WeightType::int8;
  }
  SECTION("modules") {
    options.norm_placement = NormPlacement::after;
  }
  const auto session = make_inference_session(lively_model(options), weights);
  const auto prefill = [&](int64_t sequence, std::vector<int32_t> ids) {
    session->prefill(sequence, ids);
  };
  const auto decode = [&](std::vector<int32_t> ids) { session->decode(ids); };
  CHECK_THROWS_WITH(prefill(0, {1}), ContainsSubstring("call begin() first"));
  CHECK_THROWS_WITH(decode({1}), ContainsSubstring("call begin() first"));
  CHECK_THROWS_WITH(decode({}), ContainsSubstring("call begin() first"));
  CHECK_THROWS_WITH(session->begin(0, 48), ContainsSubstring("0 sequences of 48"));
  CHECK_THROWS_WITH(session->begin(-1, 48), ContainsSubstring("-1 sequences of 48"));
  CHECK_THROWS_WITH(session->begin(1, -5), ContainsSubstring("1 sequences of -5"));

  session->begin(2, 48);
  prefill(0, {1, 2, 3});
  prefill(1, {4});
  CHECK_THROWS_WITH(prefill(2, {1}), ContainsSubstring("sequence 2 is not in [0, 2)"));
  CHECK_THROWS_WITH(prefill(-1, {1}), ContainsSubstring("sequence -1"));
  CHECK_THROWS_WITH(prefill(0, {}), ContainsSubstring("at least 1"));
  CHECK_THROWS_WITH(decode({1}), ContainsSubstring("1 ids for 2 sequences"));
  CHECK_THROWS_WITH(decode({1, 2, 3}), ContainsSubstring("3 ids for 2 sequences"));
  for (const int32_t id : {23, -1, 100000000, std::numeric_limits<int32_t>::min()}) {
    const auto named =
        ContainsSubstring("id " + std::to_string(id) + " is not in [0, vocab_size = 23)");
    CHECK_THROWS_WITH(prefill(0, {1, id}), named);
    std::vector<int32_t> long_prompt(20, 1);
    long_prompt.back() = id;
    CHECK_THROWS_WITH(prefill(0, long_prompt), named);
    CHECK_THROWS_WITH(decode({1, id}), named);
  }

  // Nothing of all that was taken in.
  const auto logits = copy_of(session->decode(std::vector<int32_t>{5, 6}));
  session->begin(2, 48);
  prefill(0, {1, 2, 3});
  prefill(1, {4});
  CHECK_THAT(copy_of(session->decode(std::vector<int32_t>{5, 6})), SameBits(logits));
}

TEST_CASE("module session: the model keeps its mode", "[generation]") {
  auto options = tiny_decoder();
  options.norm_placement = NormPlacement::after;
  options.router.jitter = 0.3; // in training only
  auto model = lively_model(options);
  const auto ids = some_ids(20, options.vocab_size);
  const auto expected = module_logits(model, ids)[-1];
  model->train();
  const auto session = make_inference_session(model);
  session->begin(1, 48);
  CHECK(relative_error(copy_of(session->prefill(0, ids)), expected) < 1e-5);
  CHECK(model->is_training());
  CHECK(model->layers->at<DecoderBlockImpl>(1).moe->router->is_training());
  session->begin(1, 3);
  CHECK_THROWS(session->prefill(0, ids)); // no room
  CHECK(model->is_training());
  model->eval();
  session->begin(1, 48);
  session->prefill(0, ids);
  CHECK_FALSE(model->is_training());
}

TEST_CASE("round_weights: autograd sees the change", "[generation]") {
  auto model = lively_model(tiny_decoder());
  const auto& weight = model->layers->at<DecoderBlockImpl>(0).attention->qkv_proj->weight;
  const auto loss = weight.square().sum();
  round_weights(model, WeightType::bfloat16);
  CHECK_THROWS_WITH(loss.backward(), ContainsSubstring("modified by an inplace operation"));
}
