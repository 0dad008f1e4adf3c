#include "moe/checkpoint/huggingface/config.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>

#include "moe/error.h"
#include "moe/files/json_internal.h"
#include "tests/support/catch.h"
#include "tests/support/model_files.h"

using namespace moe;

namespace {

Json base_config() {
  return Json::parse(write_config(tiny_model_options()).config);
}

ReadConfig read(const Json& json) {
  return read_config(json.dump(), "config.json");
}

} // namespace

TEST_CASE("Options survive config.json of the family that expresses them", "[checkpoint]") {
  auto options = tiny_model_options();
  std::string family = "qwen3_moe";
  SECTION("defaults") {}
  SECTION("window, tied, biases, other activation, dense layer") {
    options.attention.sliding_window = 5;
    options.tie_embeddings = true;
    options.attention.bias = true;
    options.expert.activation = GENERATE(
        Activation::silu,
        Activation::gelu,
        Activation::gelu_tanh,
        Activation::relu,
        Activation::relu_squared);
    options.dense_layers = {1};
    options.router.normalize_weights = false;
    options.rotary.theta = 123456.789;
    options.norm.epsilon = 1e-5;
    options.initializer_range = 0.013;
    options.attention.head_dim = 6;
  }
  SECTION("dense") {
    family = "qwen3";
    options.num_experts = 0;
    options.attention.sliding_window = GENERATE(0, 7);
    options.full_attention_layers = {0};
  }
  SECTION("only ours") {
    family = "moe_decoder";
    options.attention.qk_norm = GENERATE(true, false);
    options.expert.gated = false;
    options.expert_bias = true;
    options.shared_expert_dim = 5;
    options.shared_expert_gate = true;
    options.router.routed_scaling_factor = 2.5;
    options.dense_layers = {0};
  }
  const auto written = write_config(options);
  CHECK(written.family == family);
  CHECK(written.notices.empty() == (family != "moe_decoder"));
  const auto read = read_config(written.config, "config.json");
  CHECK(read.family == family);
  CHECK(read.notices.empty());
  CHECK((canonical(read.options) == canonical(options)));
  if (family == "moe_decoder") {
    CHECK((read.options == options));
  }
}

TEST_CASE("What matters in training only is kept beside any architecture", "[checkpoint]") {
  auto options = tiny_model_options();
  options.router.capacity_factor = 1.25;
  options.router.jitter = 0.01;
  SECTION("by position") {}
  SECTION("by score") {
    options.router.capacity_drop = CapacityDrop::score;
    options.router.sees_future = true;
  }
  const auto written = write_config(options);
  CHECK(written.family == "qwen3_moe");
  CHECK(written.notices.empty());
  const auto back = read_config(written.config, "config.json");
  CHECK(back.notices.empty());
  CHECK((canonical(back.options) == canonical(options)));
  // No key is written for what is not used.
  CHECK_FALSE(base_config().contains("capacity_factor"));
  auto broken = base_config();
  broken["router_jitter"] = 2.0;
  CHECK_THROWS_WITH(read(broken), ContainsSubstring("router_jitter: 2"));
}

TEST_CASE("Ids that no token has are left out, with a notice", "[checkpoint]") {
  auto json = base_config();
  const auto vocabulary = json["vocab_size"].get<int64_t>();
  json["bos_token_id"] = vocabulary;
  json["eos_token_id"] = {vocabulary - 1, 100257, vocabulary, 3};
  const auto config = read(json);
  CHECK(config.extras.eos_token_ids == std::vector<int64_t>{vocabulary - 1, 3});
  CHECK_FALSE(config.extras.bos_token_id.has_value());
  REQUIRE(config.notices.size() == 2);
  const auto size = std::to_string(vocabulary);
  CHECK(
      config.notices[0] == "config.json: bos_token_id: ignored " + size +
                               ", which the vocabulary of " + size + " tokens does not have");
  CHECK_THAT(config.notices[1], ContainsSubstring("eos_token_id: ignored 100257, " + size));
  // They are not written again: without any, null says that no token ends a text.
  json["eos_token_id"] = 100257;
  const auto written = write_config(read(json).options, read(json).extras);
  CHECK(Json::parse(written.config)["eos_token_id"].is_null());
  CHECK_FALSE(Json::parse(written.generation_config).contains("eos_token_id"));
  CHECK(read_config(written.config, "config.json").notices.empty());
  for (const Json& wrong : {Json(-1), Json(1.5), Json("2"), Json({2, -1})}) {
    json["eos_token_id"] = wrong;
    CHECK_THROWS_WITH(
        read(json), ContainsSubstring("eos_token_id") && ContainsSubstring("token ids"));
  }
}

TEST_CASE("Routing that no architecture has is written in our own format", "[checkpoint]") {
  auto options = tiny_model_options();
  std::string name;
  SECTION("hash") {
    name = "hash";
    options.router.selection = RouterSelection::hash;
  }
  SECTION("sinkhorn") {
    name = "sinkhorn";
    options.router.selection = RouterSelection::sinkhorn;
    options.router.sees_future = true;
  }
  SECTION("expert choice") {
    name = "expert_choice";
    options.router.selection = RouterSelection::expert_choice;
    options.router.sees_future = true;
  }
  SECTION("learned noise") {
    name = "learned";
    options.router.noise = RouterNoise::learned;
  }
  SECTION("cosine gate") {
    name = "cosine";
    options.router.gate = RouterGate::cosine;
    options.router.cosine_dim = 3;
  }
  SECTION("another score") {
    name = "sqrt_softplus";
    options.router.score = RouterScore::sqrt_softplus;
  }
  SECTION("softmax of chosen logits by sigmoid") {
    name = "sigmoid";
    options.router.score = RouterScore::sigmoid;
    options.router.weighting = RouterWeighting::softmax;
  }
  const auto written = write_config(options);
  CHECK(written.family == "moe_decoder");
  CHECK_THAT(written.notices.at(0), ContainsSubstring(name));
  CHECK((read_config(written.config, "config.json").options == options));
}

TEST_CASE("A notice names the options that Hugging Face cannot express", "[checkpoint]") {
  auto options = tiny_model_options();
  options.expert.gated = false;
  options.shared_expert_dim = 5;
  CHECK_THAT(
      write_config(options).notices.at(0),
      ContainsSubstring("transformers does not read") && ContainsSubstring("gated (false)"));
  options.num_experts = 0;
  CHECK_THAT(
      write_config(options).notices.at(0), ContainsSubstring("qwen3 has no gated (false)"));
}

TEST_CASE("The first architecture that expresses the options is written", "[checkpoint]") {
  auto options = tiny_model_options();
  std::string family;
  SECTION("without norm of heads") {
    options.attention.qk_norm = false;
    family = "mixtral";
  }
  SECTION("a norm over all heads") {
    options.attention.qk_norm_kind = QKNorm::full;
    family = "olmoe";
  }
  SECTION("a shared expert with a gate") {
    options.attention.qk_norm = false;
    options.shared_expert_dim = 5;
    options.shared_expert_gate = true;
    family = "qwen2_moe";
  }
  SECTION("a shared expert without one") {
    options.attention.qk_norm = false;
    options.shared_expert_dim = 5;
    family = "granitemoeshared";
  }
  SECTION("latent attention and a selection bias") {
    options.attention.qk_norm = false;
    options.attention.num_kv_heads = 2;
    options.attention.key_value_latent_dim = 6;
    options.attention.head_dim = 6;
    options.rotary.dim = 2;
    options.router.score = RouterScore::sigmoid;
    options.router.selection_bias = true;
    options.shared_expert_dim = 8;
    family = "deepseek_v3";
  }
  SECTION("dense without norm of heads") {
    options.attention.qk_norm = false;
    options.num_experts = 0;
    family = "llama";
  }
  const auto written = write_config(options);
  CHECK(written.family == family);
  CHECK(written.notices.empty());
}

TEST_CASE("The architecture that a model came from is kept where it fits", "[checkpoint]") {
  auto options = tiny_model_options();
  options.attention.qk_norm = false;
  options.num_experts = 0;
  CHECK(write_config(options, {}, "mistral").family == "mistral");
  options.attention.bias = true; // which mistral does not have
  CHECK(write_config(options, {}, "mistral").family == "llama");
  CHECK(write_config(options, {}, "moe_decoder").notices.empty());
}

TEST_CASE(
    "config.json carries token ids, type and the balance weight divided by K", "[checkpoint]") {
  ConfigExtras extras;
  extras.load_balancing_weight = 0.01;
  extras.dtype = "bfloat16";
  extras.eos_token_ids = {10};
  const auto written = write_config(tiny_model_options(), extras);
  const Json json = Json::parse(written.config);
  CHECK(json["router_aux_loss_coef"] == 0.005);
  CHECK(json["output_router_logits"] == false);
  CHECK(json["rope_theta"] == json["rope_parameters"]["rope_theta"]);
  CHECK(Json::parse(written.generation_config)["eos_token_id"] == 10);
  const auto read = read_config(written.config, "config.json");
  CHECK(read.extras.load_balancing_weight == 0.01);
  CHECK(read.extras.dtype == "bfloat16");
  CHECK(read.extras.eos_token_ids == std::vector<int64_t>{10});
  CHECK_FALSE(read.extras.bos_token_id.has_value());
}

TEST_CASE("read_config accepts the spellings of old and new transformers", "[checkpoint]") {
  Json json = base_config();
  SECTION("transformers 4") {
    json.erase("rope_parameters");
    json["rope_scaling"] = nullptr;
    json["max_window_layers"] = 28;
  }
  SECTION("transformers 5") {
    json.erase("rope_theta");
    json.erase("torch_dtype");
    json["dtype"] = "float32";
    json["num_local_experts"] = json["num_experts"];
    json.erase("num_experts");
  }
  SECTION("keys that do not change the arithmetic") {
    json["auto_map"] = {{"AutoModel", "x.py--X"}};
    json["transformers_version"] = "4.99.0";
    json["eos_token_id"] = {0, 2};
  }
  SECTION("a dense layer in every second place") {
    json["decoder_sparse_step"] = 2;
    CHECK(read(json).options.dense_layers == std::vector<int64_t>{0});
    return;
  }
  const auto config = read(json);
  CHECK(config.notices.empty());
  CHECK((canonical(config.options) == canonical(tiny_model_options())));
}

TEST_CASE("read_config lists keys that it does not know", "[checkpoint]") {
  Json json = base_config();
  json["trained_by"] = "me";
  CHECK_THAT(read(json).notices.at(0), ContainsSubstring("'trained_by'"));
  auto options = tiny_model_options();
  options.expert.gated = false;
  json = Json::parse(write_config(options).config);
  json["expert_choice"] = true;
  CHECK_THROWS_WITH(read(json), ContainsSubstring("expert_choice is true"));
}

TEST_CASE(
    "read_config refuses what DecoderOptions cannot express, naming the key", "[checkpoint]") {
  const auto [key, value] = GENERATE(table<std::string, Json>({
      {"model_type", "mystery"},
      {"model_type", 5},
      {"hidden_size", 0},
      {"hidden_size", -1},
      {"hidden_size", "8"},
      {"hidden_size", 8.0},
      {"hidden_size", nullptr},
      {"hidden_size", true},
      {"hidden_size", int64_t{1} << 40},
      {"num_hidden_layers", 1'000'000'000},
      {"head_dim", 0},
      {"head_dim", 3},
      {"num_key_value_heads", 3},
      {"num_experts", 0},
      {"num_local_experts", 4},
      {"num_experts_per_tok", 4},
      {"norm_topk_prob", "yes"},
      {"tie_word_embeddings", "false"},
      {"hidden_act", "frob"},
      {"hidden_act", nullptr},
      {"rms_norm_eps", -1e-6},
      {"rms_norm_eps", "1e-6"},
      {"rope_theta", 0},
      {"rope_theta", nullptr},
      {"rope_theta", 5.0},
      {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 0.0}}},
      {"rope_scaling", {{"rope_type", "yarn"}, {"factor", 2.0}, {"beta_fast", -1.0}}},
      {"rope_scaling", {{"type", "linear"}}},
      {"rope_scaling", {{"rope_type", "llama3"}, {"factor", 2.0}, {"high_freq_factor", 0.5}}},
      {"rope_scaling",
       {{"rope_type", "llama3"},
        {"factor", 2.0},
        {"low_freq_factor", 2.0},
        {"high_freq_factor", 2.0}}},
      {"rope_scaling", {{"rope_type", "longrope"}, {"short_factor", {1.0}}}},
      {"rope_scaling", {{"rope_type", "mystery"}, {"factor", 2.0}}},
      {"rope_scaling", {{"rope_type", "dynamic"}, {"factor", "2"}}},
      {"rope_scaling", {{"factor", 2.0}}},
      {"rope_scaling", "linear"},
      {"rope_parameters", {{"rope_type", "default"}, {"factor", 2.0}}},
      {"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}},
      {"decoder_sparse_step", 0},
      {"mlp_only_layers", 1},
      {"mlp_only_layers", {2}},
      {"mlp_only_layers", {"0"}},
      {"quantization_config", {{"quant_method", "mystery"}}},
      {"clip_qkv", 8.0},
      {"torch_dtype", "float7"},
      {"eos_token_id", "0"},
      {"eos_token_id", -1},
      {"bos_token_id", -7},
  }));
  Json json = base_config();
  json[key] = value;
  CAPTURE(key, value.dump());
  // Impossible combinations are named by our option.
  const std::map<std::string, std::string> ours{
      {"num_key_value_heads", "num_kv_heads"},
      {"num_experts_per_tok", "experts_per_token"},
      {"rope_scaling", "rope_"}};
  const std::string named = ours.contains(key) ? ours.at(key) : key;
  CHECK_THROWS_WITH(read(json), ContainsSubstring("config.json: ") && ContainsSubstring(named));
}

TEST_CASE("read_config refuses keys that are missing or a window of nothing", "[checkpoint]") {
  Json json = base_config();
  SECTION("missing") {
    const auto key = GENERATE(
        as<std::string>(),
        "model_type",
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "hidden_act");
    json.erase(key);
    CHECK_THROWS_WITH(read(json), ContainsSubstring(key));
  }
  SECTION("window") {
    json["use_sliding_window"] = true;
    json["sliding_window"] = GENERATE(0, -5);
    CHECK_THROWS_WITH(read(json), ContainsSubstring("sliding_window is"));
  }
}

TEST_CASE(
    "Dense qwen3 has a window in the layers that the configuration says", "[checkpoint]") {
  auto options = tiny_model_options();
  options.num_experts = 0;
  options.attention.sliding_window = 5;
  Json json = Json::parse(write_config(options).config);
  const auto full_layers = [&] {
    const auto read_options = read(json).options;
    return read_options.attention.sliding_window == 0 ? std::vector<int64_t>{0, 1}
                                                      : read_options.full_attention_layers;
  };
  CHECK(full_layers().empty());
  SECTION("by the first layer with a window") {
    json.erase("layer_types");
    json["max_window_layers"] = 2;
    CHECK(full_layers() == std::vector<int64_t>{0, 1});
    json["max_window_layers"] = 1;
    CHECK(full_layers() == std::vector<int64_t>{0});
  }
  SECTION("by layer types") {
    json["layer_types"] = {"sliding_attention", "full_attention"};
    CHECK(full_layers() == std::vector<int64_t>{1});
    json["layer_types"] = {"full_attention", "full_attention"};
    CHECK(full_layers() == std::vector<int64_t>{0, 1});
    json["layer_types"] = {"full_attention"};
    CHECK_THROWS_WITH(read(json), ContainsSubstring("layer_types"));
    json["layer_types"] = {"full_attention", "linear_attention"};
    CHECK_THROWS_WITH(read(json), ContainsSubstring("layer_types"));
  }
}

TEST_CASE("Architectures that are not supported are named with the reason", "[checkpoint]") {
  Json json = base_config();
  json["model_type"] = "jamba";
  CHECK_THROWS_WITH(read(json), ContainsSubstring("'jamba'") && ContainsSubstring("Mamba"));
  json["model_type"] = "mystery";
  CHECK_THROWS_WITH(
      read(json),
      ContainsSubstring("'mystery' is not supported") && ContainsSubstring("mixtral"));
}

TEST_CASE("The language model of a multimodal configuration is read", "[checkpoint]") {
  auto options = tiny_model_options();
  options.attention.qk_norm_kind = QKNorm::unweighted;
  options.router.score = RouterScore::sigmoid;
  options.router.normalize_weights = false;
  options.router.weights_on_input = true;
  options.shared_expert_dim = options.expert_dim;
  const auto written = write_config(options);
  REQUIRE(written.family == "llama4_text");
  Json text = Json::parse(written.config);
  text.erase("model_type");
  const auto config = read({{"model_type", "llama4"}, {"text_config", text}});
  CHECK(config.family == "llama4_text");
  CHECK(config.form.prefix == "language_model.");
  CHECK((canonical(config.options) == canonical(options)));
  CHECK_THROWS_WITH(
      read({{"model_type", "llama4"}, {"vision_config", text}}),
      ContainsSubstring("text_config"));
}

TEST_CASE("tensor_layouts cover every element of every parameter once", "[checkpoint]") {
  auto options = tiny_model_options();
  options.dense_layers = {0};
  options.attention.bias = true;
  const std::string family = GENERATE("qwen3_moe", "moe_decoder");
  std::map<std::string, int> uses;
  for (const TensorLayout& layout : tensor_layouts(family, options)) {
    const auto count = [](const std::vector<int64_t>& shape) {
      return std::accumulate(
          shape.begin(), shape.end(), int64_t{1}, std::multiplies<int64_t>());
    };
    for (const TensorParts& parts : layout.stored) {
      int64_t elements = 0;
      for (const StoredTensor& part : parts) {
        elements += count(part.shape);
        ++uses[part.name];
      }
      CAPTURE(layout.ours.name);
      CHECK(elements == count(layout.ours.shape));
    }
  }
  CHECK(std::all_of(uses.begin(), uses.end(), [](const auto& use) { return use.second == 1; }));
  CHECK(uses.contains("lm_head.weight"));
  const auto has = [&](const std::string& name) { return uses.contains(name); };
  CHECK(has("model.layers.1.mlp.experts.2.gate_proj.weight") == (family == "qwen3_moe"));
  CHECK(has("model.layers.0.mlp.up_proj.weight") == (family == "qwen3_moe"));
  CHECK(has("layers.0.attention.qkv_proj.bias") == (family == "moe_decoder"));
}
