#include <filesystem>
#include <string>

#include "moe/checkpoint/model_folder.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/files/atomic_file.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tensor_matchers.h"

using namespace moe;
using namespace moe::testing;

namespace {

namespace fs = std::filesystem;

constexpr int64_t kPrompt = 8;

fs::path fixture(const std::string& name) {
  return fs::path(MOE_TEST_FIXTURES) / "models" / name;
}

torch::Tensor greedy_continuation(DecoderLM& model, const torch::Tensor& ids, int64_t length) {
  auto state = model->make_state(ids.size(0), kPrompt + length);
  auto input = ids.slice(1, 0, kPrompt);
  std::vector<torch::Tensor> chosen;
  for (int64_t i = 0; i < length; ++i) {
    const auto hidden = model->forward(input, state).hidden;
    input = model->logits(hidden.slice(1, -1)).argmax(-1); // [B, 1]
    chosen.push_back(input);
  }
  return torch::cat(chosen, 1);
}

} // namespace

// tests/fixtures/models.py made them; compare_oracles.py does more with many more.
TEST_CASE("Checkpoints of transformers give what transformers computes", "[checkpoint]") {
  const std::string name =
      GENERATE(as<std::string>(), "mixtral", "gpt_oss", "deepseek_v3", "llama4_text", "phimoe");
  CAPTURE(name);
  const torch::NoGradGuard no_grad;
  const ModelFolder folder(fixture(name));
  CHECK(folder.family() == name);
  DecoderLM model(folder.options());
  folder.load_into(*model);
  model->eval(); // in training, some routers draw
  const auto expected = read_state_dict(fixture(name) / "reference.safetensors");
  const auto& ids = expected["input_ids"];
  const auto output = model->forward(ids);
  CHECK_THAT(model->logits(output.hidden), AllClose(expected["logits"], 1e-4));
  const auto layers = moe_layers(folder.options());
  for (size_t i = 0; i < layers.size(); ++i) {
    const auto experts = std::get<0>(output.routing[i].experts.sort(-1));
    const auto& same = expected["router." + std::to_string(layers[i]) + ".expert_ids"];
    CHECK(experts.view(same.sizes()).equal(same));
  }
  const auto& greedy = expected["greedy_ids"];
  CHECK(greedy_continuation(model, ids, greedy.size(1)).equal(greedy));
}

TEST_CASE("Checkpoints of transformers are given back unchanged", "[checkpoint]") {
  const std::string name =
      GENERATE(as<std::string>(), "mixtral", "gpt_oss", "deepseek_v3", "llama4_text", "phimoe");
  CAPTURE(name);
  const TemporaryFolder target;
  const ModelFolder folder(fixture(name));
  const auto tensors = folder.tensors();
  ModelExtras extras;
  extras.family = folder.family();
  extras.keep_types = true;
  CHECK(save_model_folder(target.path() / "model", folder.options(), tensors, extras).empty());
  const ModelFolder again(target.path() / "model");
  CHECK(again.family() == name);
  CHECK((canonical(again.options()) == canonical(folder.options())));
  CHECK(again.notices().empty());
  const auto saved = again.tensors();
  for (const auto& item : tensors) {
    CAPTURE(item.key());
    CHECK_THAT(saved[item.key()], SameBits(item.value()));
  }
  // What is neither 4-bit nor FP8 has its old names and elements, too.
  const auto before = read_state_dict(fixture(name));
  const auto after = read_state_dict(target.path() / "model");
  for (const auto& item : before) {
    const auto type = item.value().scalar_type();
    if (after.contains(item.key()) && type != torch::kFloat8_e4m3fn) {
      CAPTURE(item.key());
      CHECK_THAT(after[item.key()], SameBits(item.value()));
    }
  }
}

TEST_CASE("The language model of a multimodal folder is read", "[checkpoint]") {
  const TemporaryFolder target;
  auto tensors = read_state_dict(fixture("llama4_text"));
  StateDict prefixed;
  for (const auto& item : tensors) {
    prefixed.insert("language_model." + item.key(), item.value());
  }
  prefixed.insert("vision_model.patch_embedding.weight", torch::ones({2, 2}));
  write_state_dict(prefixed, target.path() / "model.safetensors");
  target.write(
      "config.json",
      "{\"model_type\": \"llama4\", \"vision_config\": {}, \"text_config\": " +
          read_text_file(fixture("llama4_text") / "config.json", 1 << 16) + "}");
  const ModelFolder folder(target.path());
  CHECK(folder.family() == "llama4_text");
  REQUIRE(folder.notices().size() == 2);
  CHECK_THAT(folder.notices()[1], ContainsSubstring("1 tensors of other parts"));
  const ModelFolder plain(fixture("llama4_text"));
  const auto expected = plain.tensors();
  for (const auto& item : folder.tensors()) {
    CHECK_THAT(item.value(), SameBits(expected[item.key()]));
  }
}
