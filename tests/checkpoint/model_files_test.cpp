#include "moe/checkpoint/model_files.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/model_files.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

template <class Files>
concept GivesReferences = requires(Files files) {
  std::forward<Files>(files).config();
}
|| requires(Files files) {
  std::forward<Files>(files).weights();
}
|| requires(Files files) {
  std::forward<Files>(files).origins();
}
|| requires(Files files) {
  std::forward<Files>(files).folder();
};

// What a temporary gave would refer to what is gone.
static_assert(GivesReferences<const ModelFiles&>);
static_assert(!GivesReferences<ModelFiles&&> && !GivesReferences<const ModelFiles&&>);

std::string refusal(const TemporaryFolder& folder) {
  try {
    const ModelFiles files(folder.path());
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK(text.starts_with(folder.path().string()));
    CHECK(text.find('\n') == std::string::npos);
    return text;
  }
  return "accepted";
}

StoredTensor& named(std::vector<StoredTensor>& tensors, const std::string& name) {
  for (StoredTensor& tensor : tensors) {
    if (tensor.name == name) {
      return tensor;
    }
  }
  throw std::runtime_error("no tensor " + name);
}

void erase(std::vector<StoredTensor>& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const StoredTensor& tensor) { return tensor.name == name; });
}

// A copy of a checkpoint below tests/fixtures/models, with one text replaced by another in a
// file.
void copy_fixture(
    const TemporaryFolder& folder,
    const std::string& name,
    const std::string& file,
    const std::string& from,
    const std::string& to) {
  const auto source = std::filesystem::path(MOE_TEST_FIXTURES) / "models" / name;
  for (const char* each : {"config.json", "model.safetensors"}) {
    std::filesystem::copy_file(source / each, folder.path() / each);
  }
  auto text = folder.read(file);
  const auto place = text.find(from);
  REQUIRE(place != std::string::npos);
  text.replace(place, from.size(), to);
  folder.write(file, text);
}

} // namespace

TEST_CASE("ModelFiles finds each of our tensors in either layout of experts", "[checkpoint]") {
  const size_t layout = GENERATE(0, 1);
  const TemporaryFolder folder;
  write_zero_model(folder.path(), tiny_model_options(), {}, layout);
  const ModelFiles files(folder.path());
  CHECK(files.config().family == "qwen3_moe");
  CHECK(files.config().notices.empty());
  const auto ours = decoder_tensors(tiny_model_options());
  REQUIRE(files.origins().size() == ours.size());
  for (size_t i = 0; i < ours.size(); ++i) {
    CHECK(files.origins()[i].ours == ours[i]);
    const bool stack = ours[i].name.ends_with("moe.gate_up_proj");
    if (stack) {
      CHECK(files.origins()[i].parts.size() == (layout == 0 ? 6 : 1));
    }
  }
}

TEST_CASE("ModelFiles names what does not fit the configuration", "[checkpoint]") {
  const std::string expert = "model.layers.1.mlp.experts.2.up_proj.weight";
  const TemporaryFolder folder;
  const auto write = [&](const std::function<void(std::vector<StoredTensor>&)>& change) {
    write_zero_model(folder.path(), tiny_model_options(), change);
  };
  SECTION("a missing expert") {
    write([&](auto& tensors) { erase(tensors, expert); });
    CHECK_THAT(refusal(folder), ContainsSubstring("missing: " + expert));
  }
  SECTION("an expert too many") {
    write([&](auto& tensors) {
      tensors.push_back({"model.layers.1.mlp.experts.3.up_proj.weight", {4, 8}});
      tensors.push_back({"model.layers.1.mlp.experts.02.up_proj.weight", {4, 8}});
    });
    CHECK_THAT(
        refusal(folder),
        ContainsSubstring("unexpected:") && ContainsSubstring("experts.3.up_proj") &&
            ContainsSubstring("experts.02.up_proj"));
  }
  SECTION("a transposed expert") {
    write([&](auto& tensors) { named(tensors, expert).shape = {8, 4}; });
    CHECK_THAT(refusal(folder), ContainsSubstring(expert + " [8, 4] instead of [4, 8]"));
  }
  SECTION("experts in both layouts") {
    write([&](auto& tensors) {
      tensors.push_back({"model.layers.1.mlp.experts.gate_up_proj", {3, 8, 8}});
    });
    CHECK_THAT(refusal(folder), ContainsSubstring("experts.gate_up_proj"));
  }
  SECTION("names of another model") {
    write([&](auto& tensors) {
      for (auto& tensor : tensors) {
        tensor.name = "transformer." + tensor.name;
      }
    });
    CHECK_THAT(refusal(folder), ContainsSubstring("more"));
  }
  SECTION("sizes far beyond the file") {
    write({});
    auto text = folder.read("config.json");
    const std::string key = "\"num_experts\": ";
    text.replace(text.find(key), key.size() + 1, key + "1000000000");
    folder.write("config.json", text);
    CHECK_THAT(refusal(folder), ContainsSubstring("2000000000 experts"));
  }
}

TEST_CASE("ModelFiles refuses weights that are not floating point", "[checkpoint]") {
  const TemporaryFolder folder;
  write_zero_model(folder.path(), tiny_model_options());
  auto text = folder.read("model.safetensors");
  const auto type = text.find("\"F32\"");
  text.replace(type, 5, "\"I32\"");
  folder.write("model.safetensors", text);
  CHECK_THAT(refusal(folder), ContainsSubstring("of type I32 instead of"));
}

TEST_CASE("ModelFiles takes tied embeddings from whichever matrix is there", "[checkpoint]") {
  const TemporaryFolder folder;
  auto options = tiny_model_options();
  options.tie_embeddings = true;
  const std::string embedding = "model.embed_tokens.weight";
  const StoredTensor head{"lm_head.weight", {11, 8}};
  SECTION("the embedding") {
    write_zero_model(folder.path(), options);
    const ModelFiles files(folder.path());
    CHECK(files.origins()[0].parts[0].name == embedding);
  }
  SECTION("the head") {
    write_zero_model(
        folder.path(), options, [&](auto& tensors) { named(tensors, embedding) = head; });
    const ModelFiles files(folder.path());
    CHECK(files.origins()[0].parts[0].name == "lm_head.weight");
  }
  SECTION("both, equal") {
    write_zero_model(folder.path(), options, [&](auto& tensors) { tensors.push_back(head); });
    const ModelFiles files(folder.path());
    CHECK(files.config().options.tie_embeddings);
  }
  SECTION("both, different") {
    write_zero_model(folder.path(), options, [&](auto& tensors) { tensors.push_back(head); });
    // The head is the first of the data: wide types first, then by name.
    auto text = folder.read("model.safetensors");
    text[text.size() - static_cast<size_t>(SafetensorsFolder(folder.path()).total_bytes())] = 1;
    folder.write("model.safetensors", text);
    const ModelFiles files(folder.path());
    CHECK_FALSE(files.config().options.tie_embeddings);
    REQUIRE(files.config().notices.size() == 1);
    CHECK_THAT(files.config().notices[0], ContainsSubstring("differ"));
  }
  SECTION("neither") {
    write_zero_model(folder.path(), options, [&](auto& tensors) { erase(tensors, embedding); });
    CHECK_THAT(refusal(folder), ContainsSubstring("missing: "));
  }
}

TEST_CASE("ModelFiles says which file a folder lacks", "[checkpoint]") {
  const TemporaryFolder folder;
  CHECK_THAT(refusal(folder), ContainsSubstring("holds no config.json"));
  CHECK_THROWS_WITH(ModelFiles(folder.path() / "none"), ContainsSubstring("no such folder"));
  write_zero_model(folder.path(), tiny_model_options());
  std::filesystem::remove(folder.path() / "model.safetensors");
  folder.write("pytorch_model.bin", "PK\x03\x04");
  CHECK_THAT(refusal(folder), ContainsSubstring("holds no model.safetensors"));
}

TEST_CASE("ModelFiles refuses blocks of 4 bits and FP8 that do not fit", "[checkpoint]") {
  const TemporaryFolder folder;
  const std::string weights = "model.safetensors";
  SECTION("blocks of another type") {
    copy_fixture(folder, "gpt_oss", weights, "\"U8\"", "\"I8\"");
    CHECK_THAT(refusal(folder), ContainsSubstring("of type I8 instead of U8"));
  }
  SECTION("scales missing") {
    copy_fixture(folder, "gpt_oss", weights, "down_proj_scales", "down_proj_scalez");
    CHECK_THAT(
        refusal(folder),
        ContainsSubstring("missing: ") && ContainsSubstring("down_proj_scales") &&
            ContainsSubstring("unexpected: "));
  }
  SECTION("a width that 32 does not divide") {
    copy_fixture(
        folder,
        "gpt_oss",
        "config.json",
        "\"intermediate_size\": 32",
        "\"intermediate_size\": 31");
    CHECK_THAT(refusal(folder), ContainsSubstring("blocks of 32, which do not divide 31"));
  }
  SECTION("scales for blocks of another size") {
    copy_fixture(folder, "deepseek_v3", "config.json", "      16,", "      4,");
    CHECK_THAT(refusal(folder), ContainsSubstring("weight_scale_inv ["));
  }
  SECTION("blocks of nothing") {
    copy_fixture(folder, "deepseek_v3", "config.json", "      16,", "      0,");
    CHECK_THAT(refusal(folder), ContainsSubstring("weight_block_size"));
  }
  SECTION("blocks whose size overflows") {
    copy_fixture(
        folder, "deepseek_v3", "config.json", "      16,", "      9223372036854775807,");
    CHECK_THAT(refusal(folder), ContainsSubstring("weight_block_size"));
  }
  SECTION("FP8 of which the configuration says nothing") {
    copy_fixture(
        folder,
        "deepseek_v3",
        "config.json",
        "\"quantization_config\"",
        "\"former_quantization\"");
    CHECK_THAT(refusal(folder), ContainsSubstring("F8_E4M3 without a quantization_config"));
  }
  SECTION("another quantisation") {
    copy_fixture(folder, "deepseek_v3", "config.json", "\"fp8\"", "\"gptq\"");
    CHECK_THAT(refusal(folder), ContainsSubstring("quant_method is \"gptq\""));
  }
}

TEST_CASE("ModelFiles leaves out layers that predict further tokens", "[checkpoint]") {
  const TemporaryFolder folder;
  // The last layer becomes an extra one.
  copy_fixture(
      folder,
      "deepseek_v3",
      "config.json",
      "\"num_hidden_layers\": 2",
      "\"num_hidden_layers\": 1");
  CHECK_THAT(refusal(folder), ContainsSubstring("unexpected: "));
  auto text = folder.read("config.json");
  const std::string none = "\"num_nextn_predict_layers\": 0";
  text.replace(text.find(none), none.size(), "\"num_nextn_predict_layers\": 1");
  folder.write("config.json", text);
  const ModelFiles files(folder.path());
  CHECK(files.config().options.num_layers == 1);
  CHECK_THAT(files.config().notices.back(), ContainsSubstring("are not used"));
}
