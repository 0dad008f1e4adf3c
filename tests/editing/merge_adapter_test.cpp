#include "moe/editing/merge_adapter.h"

#include "moe/training/peft_adapter.h"
#include "tests/support/catch.h"
#include "tests/support/edited_models.h"
#include "tests/support/tensor_matchers.h"
#include "tests/support/tiny_training.h"

using namespace moe;
using namespace moe::testing;

namespace {

const std::string kRoot = "base_model.model.model.layers.";
const std::string kSizes = R"("peft_type": "LORA", "r": 2, "lora_alpha": 3)";

/// Writes adapter_config.json and the tensors of an adapter.
void write_adapter(
    const std::filesystem::path& folder, const std::string& config, const StateDict& tensors) {
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "adapter_config.json") << "{" << config << "}";
  write_state_dict(tensors, folder / "adapter_model.safetensors");
}

void add_pair(
    StateDict& tensors,
    const std::string& module,
    std::vector<int64_t> a_shape,
    std::vector<int64_t> b_shape) {
  tensors.insert(kRoot + module + ".lora_A.weight", torch::randn(a_shape));
  tensors.insert(kRoot + module + ".lora_B.weight", torch::randn(b_shape));
}

torch::Tensor a_of(const StateDict& tensors, const std::string& module) {
  return tensors[kRoot + module + ".lora_A.weight"];
}

torch::Tensor b_of(const StateDict& tensors, const std::string& module) {
  return tensors[kRoot + module + ".lora_B.weight"];
}

/// Merges and gives what the file has then.
StateDict merged(const ModelFolder& source, const std::filesystem::path& adapter) {
  const auto out = adapter.parent_path() / (adapter.filename().string() + "-merged");
  save_edited_model(out, merge_adapter(source, adapter), source);
  return read_state_dict(out / "model.safetensors");
}

/// The files of `source` with what `changes` says added, and nothing else changed.
void check_files(
    const ModelFolder& source,
    const StateDict& after,
    const std::map<std::string, torch::Tensor>& changes) {
  const auto before = read_state_dict(source.path() / "model.safetensors");
  CHECK(after.size() == before.size());
  size_t found = 0;
  for (const auto& item : before) {
    CAPTURE(item.key());
    const auto change = changes.find(item.key());
    if (change == changes.end()) {
      CHECK_THAT(after[item.key()], SameBits(item.value()));
      continue;
    }
    ++found;
    CHECK_THAT(after[item.key()], AllClose(item.value() + change->second, 1e-5));
  }
  CHECK(found == changes.size());
}

/// A model of transformers as a folder with plain tensors in float32.
ModelFolder plain_fixture(const std::filesystem::path& folder, const std::string& name) {
  const ModelFolder stored(std::filesystem::path(MOE_TEST_FIXTURES) / "models" / name);
  ModelExtras extras;
  extras.family = name;
  save_model_folder(folder, stored.options(), stored.tensors(), extras);
  return ModelFolder(folder);
}

} // namespace

TEST_CASE("merge_adapter: an adapter that was exported gives the trained model", "[editing]") {
  const TrainingSetup setup;
  auto options = quick_options();
  options.steps = 4;
  options.lora_rank = 3;
  options.lora_alpha = 4.5;
  options.lora_targets = {"experts", "attention", "router"};
  auto architecture = learning_decoder();
  architecture.expert_dim = 16; // stacks of square matrices, too
  auto trainer = setup.trainer(architecture, options);
  const auto& folder = setup.folder.path();
  const auto source = save(folder / "base", trainer.model());
  while (trainer.steps_done() < options.steps) {
    trainer.step();
  }
  REQUIRE(write_peft_adapter(folder / "adapter", *trainer.lora(), architecture, "", "base")
              .empty());
  auto model =
      write_and_load(folder / "merged", merge_adapter(source, folder / "adapter"), source);
  const auto expected = state_dict(*trainer.model());
  const auto before = source.tensors();
  for (const auto& item : state_dict(*model)) {
    CAPTURE(item.key());
    CHECK_THAT(item.value(), AllClose(expected[item.key()], 1e-6));
    const bool is_target = item.key().find("norm") == std::string::npos &&
                           (item.key().find("attention") != std::string::npos ||
                            item.key().find("moe") != std::string::npos);
    CHECK(torch::equal(item.value(), before[item.key()]) == !is_target);
  }
}

TEST_CASE(
    "merge_adapter: modules one by one, with ranks and alphas of their own", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(tiny_decoder()));
  StateDict tensors;
  add_pair(tensors, "0.self_attn.q_proj", {2, 16}, {16, 2});
  add_pair(tensors, "1.self_attn.v_proj", {5, 16}, {8, 5});
  add_pair(tensors, "1.self_attn.o_proj", {2, 16}, {16, 2});
  add_pair(tensors, "0.mlp.up_proj", {2, 16}, {24, 2});
  add_pair(tensors, "1.mlp.gate", {2, 16}, {4, 2});
  add_pair(tensors, "1.mlp.experts.3.gate_proj", {2, 16}, {12, 2});
  add_pair(tensors, "1.mlp.experts.0.down_proj", {2, 12}, {16, 2});
  const bool by_root = GENERATE(false, true);
  CAPTURE(by_root);
  write_adapter(
      folder.path() / "adapter",
      kSizes + R"(, "rank_pattern": {"v_proj": 5}, "alpha_pattern": {"layers.1.mlp.gate": 7},
      "fan_in_fan_out": true, "use_rslora": )" +
          (by_root ? "true" : "false"),
      tensors);
  std::map<std::string, torch::Tensor> changes;
  for (const auto& item : tensors) {
    if (!item.key().ends_with("lora_A.weight")) {
      continue;
    }
    const auto begin = std::string("base_model.model.").size();
    const auto module = item.key().substr(
        begin, item.key().size() - begin - std::string(".lora_A.weight").size());
    const auto short_name = module.substr(std::string("model.layers.").size());
    const double rank = module.ends_with("v_proj") ? 5.0 : 2.0;
    const double alpha = module.ends_with("mlp.gate") ? 7.0 : 3.0;
    changes[module + ".weight"] = torch::matmul(b_of(tensors, short_name), item.value()) *
                                  alpha / (by_root ? std::sqrt(rank) : rank);
  }
  CHECK(changes.size() == 7);
  check_files(source, merged(source, folder.path() / "adapter"), changes);
}

TEST_CASE("merge_adapter: stacks of experts, in files with one by one", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(tiny_decoder()));
  StateDict tensors;
  add_pair(tensors, "1.mlp.experts.base_layer", {4 * 2, 16}, {24, 2 * 4});
  add_pair(tensors, "1.mlp.experts", {4 * 3, 12}, {16, 3 * 4});
  write_adapter(
      folder.path() / "adapter",
      kSizes + R"(, "target_parameters": ["mlp.experts.down_proj", "mlp.experts.gate_up_proj"],
      "rank_pattern": {"experts.down_proj": 3}, "alpha_pattern": {"experts.gate_up_proj": 5})",
      tensors);
  const auto a = a_of(tensors, "1.mlp.experts.base_layer");
  const auto b = b_of(tensors, "1.mlp.experts.base_layer");
  const auto down_a = a_of(tensors, "1.mlp.experts");
  const auto down_b = b_of(tensors, "1.mlp.experts");
  std::map<std::string, torch::Tensor> changes;
  for (int64_t expert = 0; expert < 4; ++expert) {
    const auto name = "model.layers.1.mlp.experts." + std::to_string(expert);
    auto gate_up = torch::zeros({24, 16});
    for (int64_t r = 0; r < 2; ++r) {
      gate_up += torch::outer(b.select(1, r * 4 + expert), a[expert * 2 + r]) * 5.0 / 2.0;
    }
    auto down = torch::zeros({16, 12});
    for (int64_t r = 0; r < 3; ++r) {
      down +=
          torch::outer(down_b.select(1, r * 4 + expert), down_a[expert * 3 + r]) * 3.0 / 3.0;
    }
    changes[name + ".gate_proj.weight"] = gate_up.slice(0, 0, 12);
    changes[name + ".up_proj.weight"] = gate_up.slice(0, 12, 24);
    changes[name + ".down_proj.weight"] = down;
  }
  check_files(source, merged(source, folder.path() / "adapter"), changes);
}

TEST_CASE("merge_adapter: stacks that lie transposed in files", "[editing]") {
  const TemporaryFolder folder;
  // [E, in, out] changed by (B · A) transposed, matrix by matrix.
  const auto stack = [](const StateDict& tensors, const std::string& module, int64_t experts) {
    const auto a = a_of(tensors, module).view({experts, 2, -1});
    const auto b = b_of(tensors, module).view({-1, 2, experts});
    std::vector<torch::Tensor> matrices;
    for (int64_t expert = 0; expert < experts; ++expert) {
      matrices.push_back(torch::matmul(b.select(2, expert), a[expert]) * 1.5);
    }
    return torch::stack(matrices); // [E, out, in]
  };
  StateDict tensors;
  std::string targets =
      R"(, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"])";
  std::map<std::string, torch::Tensor> changes;
  SECTION("gpt_oss, whatever version") {
    const auto source =
        plain_fixture(folder.path() / "model", "gpt_oss"); // [4, 32, 64], [4, 32, 32]
    add_pair(tensors, "0.mlp.experts.base_layer", {8, 32}, {64, 8});
    add_pair(tensors, "0.mlp.experts", {8, 32}, {32, 8});
    write_adapter(folder.path() / "adapter", kSizes + targets, tensors);
    const std::string name = "model.layers.0.mlp.experts.";
    changes[name + "gate_up_proj"] = stack(tensors, "0.mlp.experts.base_layer", 4).mT();
    changes[name + "down_proj"] = stack(tensors, "0.mlp.experts", 4).mT();
    check_files(source, merged(source, folder.path() / "adapter"), changes);
  }
  SECTION("llama4, since PEFT 0.19 as if they were not") {
    const auto source =
        plain_fixture(folder.path() / "model", "llama4_text"); // [4, 16, 16], [4, 8, 16]
    add_pair(tensors, "1.feed_forward.experts.base_layer", {8, 16}, {16, 8});
    add_pair(tensors, "1.feed_forward.experts", {8, 16}, {8, 8});
    write_adapter(folder.path() / "old", kSizes + targets, tensors);
    CHECK_THROWS_WITH(
        merge_adapter(source, folder.path() / "old"),
        ContainsSubstring("peft_version is not 0.19 or later") &&
            ContainsSubstring("model.layers.1.feed_forward.experts.gate_up_proj"));
    targets += R"(, "peft_version": "0.19.1")";
    write_adapter(folder.path() / "adapter", kSizes + targets, tensors);
    const std::string name = "model.layers.1.feed_forward.experts.";
    changes[name + "gate_up_proj"] = stack(tensors, "1.feed_forward.experts.base_layer", 4);
    changes[name + "down_proj"] = stack(tensors, "1.feed_forward.experts", 4);
    check_files(source, merged(source, folder.path() / "adapter"), changes);
  }
  SECTION("llama4 before, where shapes tell") {
    const auto source = plain_fixture(folder.path() / "model", "llama4_text");
    targets = R"(, "target_parameters": ["experts.down_proj"])";
    add_pair(tensors, "1.feed_forward.experts", {8, 8}, {16, 8});
    write_adapter(folder.path() / "adapter", kSizes + targets, tensors);
    changes["model.layers.1.feed_forward.experts.down_proj"] =
        stack(tensors, "1.feed_forward.experts", 4).mT();
    check_files(source, merged(source, folder.path() / "adapter"), changes);
  }
}

TEST_CASE(
    "merge_adapter: rounds once, and keeps types and the record of new experts", "[editing]") {
  const TemporaryFolder folder;
  auto model = random_model(tiny_decoder());
  ModelExtras extras;
  extras.dtype = torch::kBFloat16;
  save_model_folder(folder.path() / "model", model->options, state_dict(*model), extras);
  write_new_experts(folder.path() / "model", {{1, {2, 3}}});
  const ModelFolder source(folder.path() / "model");
  StateDict tensors;
  add_pair(tensors, "0.self_attn.k_proj", {2, 16}, {8, 2});
  write_adapter(folder.path() / "adapter", kSizes, tensors);
  const auto after = merged(source, folder.path() / "adapter");
  const std::string name = "model.layers.0.self_attn.k_proj.weight";
  const auto before = read_state_dict(source.path() / "model.safetensors")[name];
  const auto product =
      torch::matmul(b_of(tensors, "0.self_attn.k_proj"), a_of(tensors, "0.self_attn.k_proj"));
  const auto sum = (before.to(torch::kFloat32) + product * 1.5).to(torch::kBFloat16);
  CHECK(after[name].scalar_type() == torch::kBFloat16);
  CHECK_THAT(after[name].to(torch::kFloat32), AllClose(sum.to(torch::kFloat32), 1e-6));
  CHECK(read_new_experts(folder.path() / "adapter-merged") == NewExperts{{1, {2, 3}}});
}

TEST_CASE("merge_adapter repeats itself byte for byte", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(tiny_decoder()));
  StateDict tensors;
  add_pair(tensors, "1.mlp.experts", {4 * 2, 16}, {24, 2 * 4});
  add_pair(tensors, "1.mlp.experts.2.up_proj", {2, 16}, {12, 2});
  write_adapter(
      folder.path() / "adapter",
      kSizes + R"(, "target_parameters": ["mlp.experts.gate_up_proj"])",
      tensors);
  for (const auto* name : {"a", "b"}) {
    const auto edited = merge_adapter(source, folder.path() / "adapter");
    save_edited_model(folder.path() / name, edited, source);
  }
  const bool same = folder.read("a/model.safetensors") == folder.read("b/model.safetensors");
  CHECK(same);
}

TEST_CASE("merge_adapter refuses what does not fit", "[editing]") {
  const TemporaryFolder folder;
  const auto source = save(folder.path() / "model", random_model(tiny_decoder()));
  int count = 0;
  const auto refuses =
      [&](const std::string& config, const StateDict& tensors, const auto& message) {
        const auto adapter = folder.path() / std::to_string(count++);
        write_adapter(adapter, config, tensors);
        CHECK_THROWS_WITH(merge_adapter(source, adapter), message);
      };
  const auto pair = [](const std::string& module, auto a, auto b) {
    StateDict tensors;
    add_pair(tensors, module, a, b);
    return tensors;
  };
  using Shape = std::vector<int64_t>;
  const auto fits = pair("0.self_attn.q_proj", Shape{2, 16}, Shape{16, 2});
  refuses(
      kSizes,
      pair("2.self_attn.q_proj", Shape{2, 16}, Shape{16, 2}),
      ContainsSubstring("no matrix 'model.layers.2.self_attn.q_proj.weight'"));
  refuses(
      kSizes,
      pair("0.self_attn.q_proj", Shape{3, 16}, Shape{16, 3}),
      ContainsSubstring("A [3, 16] and B [16, 3] of rank 2 do not fit") &&
          ContainsSubstring("q_proj.weight [16, 16]"));
  for (const auto& [a, b] : std::vector<std::pair<Shape, Shape>>{
           {{2, 15}, {8, 2}}, {{2, 16}, {9, 2}}, {{2, 16}, {8, 3}}, {{2, 8}, {16, 2}}}) {
    refuses(kSizes, pair("0.self_attn.k_proj", a, b), ContainsSubstring("do not fit"));
  }
  auto half = fits;
  half.erase(kRoot + "0.self_attn.q_proj.lora_B.weight");
  refuses(kSizes, half, ContainsSubstring("q_proj has an A without B"));
  for (const std::string& name : std::vector<std::string>{
           kRoot + "0.self_attn.q_proj.lora_magnitude_vector",
           kRoot + "0.self_attn.q_proj.lora_B.bias",
           std::string("base_model.model.model.embed_tokens.lora_embedding_A"),
           std::string("base_model.model.lm_head.weight"),
           std::string("model.layers.1.self_attn.q_proj.lora_A.weight")}) {
    auto more = fits;
    more.insert(name, torch::zeros({2, 16}));
    refuses(kSizes, more, ContainsSubstring("'" + name + "' is not the A or B of a matrix"));
  }
  auto integers = fits;
  integers[kRoot + "0.self_attn.q_proj.lora_A.weight"] = torch::ones({2, 16}, torch::kInt32);
  refuses(kSizes, integers, ContainsSubstring("is not a matrix of floating-point numbers"));
  auto line = fits;
  line[kRoot + "0.self_attn.q_proj.lora_A.weight"] = torch::ones({32});
  refuses(kSizes, line, ContainsSubstring("is not a matrix"));
  refuses(kSizes, StateDict(), ContainsSubstring("there is no adapter in it"));
  refuses(
      kSizes,
      pair("0.self_attn.q_proj.base_layer", Shape{2, 16}, Shape{16, 2}),
      ContainsSubstring("target_parameters names 1 parameters"));
  const auto experts = pair("1.mlp.experts", Shape{8, 16}, Shape{24, 8});
  refuses(kSizes, experts, ContainsSubstring("target_parameters names 0 parameters of"));
  const std::string both =
      R"(, "target_parameters": ["experts.gate_up_proj", "experts.down_proj"])";
  refuses(kSizes + both, experts, ContainsSubstring("names 2 parameters"));
  const std::string one = R"(, "target_parameters": ["experts.gate_up_proj"])";
  refuses(
      kSizes + one + R"(, "fan_in_fan_out": true)",
      experts,
      ContainsSubstring("fan_in_fan_out is true"));
  refuses(
      kSizes + one,
      pair("1.mlp.experts", Shape{9, 16}, Shape{24, 9}),
      ContainsSubstring("do not fit"));
  const auto without = folder.path() / "without";
  write_adapter(without, kSizes, fits);
  std::filesystem::remove(without / "adapter_model.safetensors");
  CHECK_THROWS_WITH(
      merge_adapter(source, without), ContainsSubstring("adapter_model.safetensors"));
}

// For compare_peft.py: merges the adapters that it made.
TEST_CASE("adapters of PEFT merged for a comparison", "[.peft-merge]") {
  const char* root = std::getenv("MOE_PEFT_FOLDER");
  REQUIRE(root != nullptr);
  const std::filesystem::path folder = root;
  const ModelFolder source(folder / "base");
  save_edited_model(folder / "merged", merge_adapter(source, folder / "adapter"), source);
}
