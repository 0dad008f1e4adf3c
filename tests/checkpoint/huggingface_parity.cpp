#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "moe/checkpoint/model_folder.h"
#include "moe/decoder/decoder_lm.h"
#include "moe/editing/collapse.h"
#include "moe/editing/grow.h"
#include "moe/editing/upcycle.h"
#include "moe/libtorch.h"
#include "tests/support/catch.h"
#include "tests/support/tiny_decoder.h"

using namespace moe;

namespace {

namespace fs = std::filesystem;

std::vector<std::pair<std::string, DecoderOptions>> models_for_transformers() {
  std::vector<std::pair<std::string, DecoderOptions>> result;
  const auto add = [&](const std::string& name, auto&& change) {
    auto options = moe::testing::tiny_decoder();
    change(options);
    result.emplace_back(name, options);
  };
  add("plain", [](DecoderOptions& options) { options.dense_layers = {}; });
  add("dense-layer", [](DecoderOptions& options) { options.rotary.theta = 777.5; });
  add("window-tied-bias", [](DecoderOptions& options) {
    options.attention.sliding_window = 5;
    options.tie_embeddings = true;
    options.attention.bias = true;
    options.router.normalize_weights = false;
    options.norm.epsilon = 0.01;
  });
  add("gelu-tanh",
      [](DecoderOptions& options) { options.expert.activation = Activation::gelu_tanh; });
  add("relu-squared",
      [](DecoderOptions& options) { options.expert.activation = Activation::relu_squared; });
  add("wide-heads", [](DecoderOptions& options) { options.attention.head_dim = 10; });
  add("dense", [](DecoderOptions& options) { options.num_experts = 0; });
  add("dense-window", [](DecoderOptions& options) {
    options.num_experts = 0;
    options.attention.sliding_window = 6;
    options.expert.activation = Activation::gelu;
  });
  return result;
}

// Gives every parameter values that matter, norms and biases too.
void randomize(DecoderLM& model) {
  const torch::NoGradGuard no_grad;
  for (auto& item : model->named_parameters()) {
    if (item.value().dim() == 1) {
      item.value().normal_(item.key().ends_with("bias") ? 0.0 : 1.0, 0.3);
    }
  }
}

torch::Tensor logits_of(DecoderLM& model, const torch::Tensor& ids) {
  const torch::NoGradGuard no_grad;
  model->eval();
  return model->logits(model->forward(ids).hidden);
}

void write_reference(const fs::path& folder, const torch::Tensor& ids, DecoderLM& model) {
  StateDict reference;
  reference.insert("input_ids", ids);
  reference.insert("logits", logits_of(model, ids));
  write_state_dict(reference, folder / "reference.safetensors");
}

void write_edited(
    const fs::path& path,
    const EditedModel& edited,
    const ModelFolder& source,
    const torch::Tensor& ids) {
  CHECK(save_edited_model(path, edited, source).empty());
  const ModelFolder folder(path);
  DecoderLM model(folder.options());
  folder.load_into(*model);
  write_reference(path, ids, model);
}

// Models whose experts were changed.
void write_edited_models(const fs::path& ours) {
  const ModelFolder dense(ours / "dense");
  const ModelFolder plain(ours / "plain");
  const auto ids = torch::randint(0, dense.options().vocab_size, {2, 24}, torch::kInt64);
  write_edited(
      ours / "upcycled",
      upcycle(dense, {.experts = 6, .experts_per_token = 4, .parts = 2}),
      dense,
      ids);
  write_edited(ours / "grown", grow(plain, {.experts = 2}, {{"text", {ids}}}), plain, ids);
  write_edited(ours / "collapsed", collapse(plain, {.method = "concatenate"}), plain, ids);
}

} // namespace

// Hidden: compare_with_transformers.py runs it, writes models for it and checks what it writes.
TEST_CASE("ModelFolder: exchange models with transformers", "[.huggingface]") {
  const char* root = std::getenv("MOE_PARITY_FOLDER");
  REQUIRE(root != nullptr);
  torch::manual_seed(0);
  for (const auto& [name, options] : models_for_transformers()) {
    const auto ids = torch::randint(0, options.vocab_size, {2, 24}, torch::kInt64);
    DecoderLM model(options);
    randomize(model);
    const auto folder = fs::path(root) / "ours" / name;
    ModelExtras extras;
    extras.max_shard_bytes = name == "plain" ? 4000 : 0;
    extras.dtype = name == "wide-heads" ? torch::kBFloat16 : torch::kFloat32;
    CHECK(save_model_folder(folder, options, state_dict(*model), extras).empty());
    ModelFolder(folder).load_into(*model); // rounds to the stored type
    write_reference(folder, ids, model);
  }
  write_edited_models(fs::path(root) / "ours");
  for (const auto& entry : fs::directory_iterator(fs::path(root) / "theirs")) {
    const ModelFolder folder(entry.path());
    CHECK(folder.notices().empty());
    DecoderLM model(folder.options());
    folder.load_into(*model);
    const auto ids = torch::randint(0, folder.options().vocab_size, {2, 24}, torch::kInt64);
    write_reference(entry.path(), ids, model);
  }
}
