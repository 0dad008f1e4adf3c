#include "moe/checkpoint/model_folder.h"

#include "moe/decoder/decoder_lm.h"
#include "moe/error.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/model_files.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using moe::testing::SameBits;

namespace {

StateDict random_tensors(const DecoderOptions& options) {
  StateDict tensors;
  for (const NamedShape& tensor : decoder_tensors(options)) {
    tensors.insert(tensor.name, torch::randn(tensor.shape));
  }
  return tensors;
}

void check_same(const StateDict& actual, const StateDict& expected) {
  REQUIRE(actual.size() == expected.size());
  for (const auto& item : expected) {
    CAPTURE(item.key());
    REQUIRE(actual.contains(item.key()));
    CHECK_THAT(actual[item.key()], SameBits(item.value()));
  }
}

std::vector<std::pair<std::string, DecoderOptions>> models_of_every_family() {
  std::vector<std::pair<std::string, DecoderOptions>> result;
  auto options = tiny_model_options();
  result.emplace_back("qwen3_moe", options);
  options.attention.bias = true;
  options.tie_embeddings = true;
  options.dense_layers = {0};
  options.attention.sliding_window = 4;
  result.emplace_back("qwen3_moe", options);
  options = tiny_model_options();
  options.num_experts = 0;
  result.emplace_back("qwen3", options);
  options = tiny_model_options();
  options.expert.gated = false;
  options.expert_bias = true;
  options.shared_expert_dim = 3;
  options.shared_expert_gate = true;
  options.attention.qk_norm = false;
  options.dense_layers = {1};
  result.emplace_back("moe_decoder", options);
  return result;
}

} // namespace

TEST_CASE("decoder_tensors are the parameters of DecoderLM", "[checkpoint]") {
  for (const auto& [family, options] : models_of_every_family()) {
    const DecoderLM model(options);
    const auto parameters = state_dict(*model);
    const auto expected = decoder_tensors(options);
    CHECK(parameters.size() == expected.size());
    for (const NamedShape& tensor : expected) {
      CAPTURE(tensor.name);
      REQUIRE(parameters.contains(tensor.name));
      CHECK(parameters[tensor.name].sizes() == torch::IntArrayRef(tensor.shape));
    }
  }
}

TEST_CASE("A model folder gives back options and weights of every family", "[checkpoint]") {
  torch::manual_seed(0);
  for (const auto& [family, options] : models_of_every_family()) {
    const int64_t max_shard_bytes = GENERATE(0, 500);
    const TemporaryFolder folder;
    const auto path = folder.path() / "model";
    const auto tensors = random_tensors(options);
    ModelExtras extras;
    extras.max_shard_bytes = max_shard_bytes;
    extras.load_balancing_weight = 0.5;
    const auto notices = save_model_folder(path, options, tensors, extras);
    CHECK(notices.empty() == (family != "moe_decoder"));
    const ModelFolder read(path);
    CHECK(read.family() == family);
    CHECK(read.notices().empty());
    check_same(read.tensors(), tensors);

    DecoderLM model(read.options());
    read.load_into(*model);
    check_same(state_dict(*model), tensors);
  }
}

TEST_CASE("Each stored part holds the rows its name says", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model";
  const auto options = tiny_model_options();
  const auto tensors = random_tensors(options);
  save_model_folder(path, options, tensors);
  const auto stored = read_state_dict(path);
  const auto& qkv = tensors["layers.1.attention.qkv_proj.weight"]; // [8 + 4 + 4, 8]
  const std::string attention = "model.layers.1.self_attn.";
  CHECK_THAT(stored[attention + "q_proj.weight"], SameBits(qkv.slice(0, 0, 8)));
  CHECK_THAT(stored[attention + "k_proj.weight"], SameBits(qkv.slice(0, 8, 12)));
  CHECK_THAT(stored[attention + "v_proj.weight"], SameBits(qkv.slice(0, 12, 16)));
  const auto& up = tensors["layers.1.moe.gate_up_proj"]; // [3, 2 * 4, 8]
  const std::string expert = "model.layers.1.mlp.experts.2.";
  CHECK_THAT(stored[expert + "gate_proj.weight"], SameBits(up[2].slice(0, 0, 4)));
  CHECK_THAT(stored[expert + "up_proj.weight"], SameBits(up[2].slice(0, 4, 8)));
  CHECK_THAT(
      stored[expert + "down_proj.weight"], SameBits(tensors["layers.1.moe.down_proj"][2]));
}

TEST_CASE("Fused experts are read, too", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto options = tiny_model_options();
  const auto tensors = random_tensors(options);
  write_zero_model(folder.path(), options, {}, /*layout=*/1);
  StateDict stored;
  for (const TensorLayout& layout : tensor_layouts("qwen3_moe", options)) {
    const auto flat = tensors[layout.ours.name].view(-1);
    int64_t offset = 0;
    for (const StoredTensor& part : layout.stored.back()) {
      const int64_t count = c10::multiply_integers(part.shape);
      stored.insert(part.name, flat.narrow(0, offset, count).view(part.shape));
      offset += count;
    }
  }
  REQUIRE(stored.contains("model.layers.0.mlp.experts.gate_up_proj"));
  write_state_dict(stored, folder.path() / "model.safetensors");
  check_same(ModelFolder(folder.path()).tensors(), tensors);
}

TEST_CASE("Weights are stored and loaded in other types", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model";
  const auto options = tiny_model_options();
  const auto tensors = random_tensors(options);
  ModelExtras extras;
  extras.dtype = torch::kBFloat16;
  save_model_folder(path, options, tensors, extras);
  const ModelFolder read(path);
  CHECK(read.extras().dtype == "bfloat16");
  CHECK(read.tensors()["final_norm.weight"].scalar_type() == torch::kBFloat16);
  DecoderLM model(read.options());
  read.load_into(*model);
  const auto loaded = state_dict(*model);
  for (const auto& item : tensors) {
    CHECK_THAT(
        loaded[item.key()], SameBits(item.value().to(torch::kBFloat16).to(torch::kFloat32)));
  }
}

TEST_CASE("save_model_folder writes the tokenizer beside the weights", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model";
  ModelExtras extras;
  extras.tokenizer_json = "{\"version\":\"1.0\"}";
  extras.eos_token_ids = {10};
  save_model_folder(path, tiny_model_options(), random_tensors(tiny_model_options()), extras);
  CHECK(folder.read("model/tokenizer.json") == extras.tokenizer_json);
  CHECK_THAT(
      folder.read("model/tokenizer_config.json"),
      ContainsSubstring("\"eos_token\": \"<|endoftext|>\""));
  CHECK_THAT(
      folder.read("model/generation_config.json"), ContainsSubstring("\"eos_token_id\": 10"));
  CHECK(ModelFolder(path).extras().eos_token_ids == std::vector<int64_t>{10});
}

TEST_CASE(
    "save_model_folder refuses tensors that do not fit, and a folder in use", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model";
  const auto options = tiny_model_options();
  auto tensors = random_tensors(options);
  tensors.erase("final_norm.weight");
  tensors.insert("extra", torch::ones({1}));
  tensors["lm_head.weight"] = torch::ones({8, 11});
  CHECK_THROWS_WITH(
      save_model_folder(path, options, tensors),
      ContainsSubstring(path.string() + ": the tensors") &&
          ContainsSubstring("missing: final_norm.weight") &&
          ContainsSubstring("unexpected: extra") &&
          ContainsSubstring("lm_head.weight [8, 11] instead of [11, 8]"));
  CHECK(std::filesystem::is_empty(folder.path()));
  folder.write("model/x", "mine");
  CHECK_THROWS_WITH(
      save_model_folder(path, options, random_tensors(options)),
      ContainsSubstring("already there"));
}

TEST_CASE("load_into changes nothing in a module of another shape", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "model";
  auto options = tiny_model_options();
  save_model_folder(path, options, random_tensors(options));
  options.expert_dim = 5;
  DecoderLM other(options);
  const auto before = other->embedding->weight.detach().clone();
  CHECK_THROWS_WITH(
      ModelFolder(path).load_into(*other), ContainsSubstring("gate_up_proj [3, 10, 8]"));
  CHECK_THAT(other->embedding->weight.detach(), SameBits(before));
}

TEST_CASE("A full disk while a model is saved leaves no folder", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto options = tiny_model_options();
  const FileSizeLimit limit(2000);
  CHECK_THROWS_WITH(
      save_model_folder(folder.path() / "model", options, random_tensors(options)),
      ContainsSubstring("cannot write"));
  CHECK(std::filesystem::is_empty(folder.path()));
}
