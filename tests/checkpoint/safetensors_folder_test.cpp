#include "moe/checkpoint/safetensors_folder.h"

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

constexpr const char* kIndex = "model.safetensors.index.json";

std::string file_with(const std::string& name) {
  return safetensors_bytes(
      "{\"" + name + "\":" + tensor_json("\"U8\"", "[1]", "[0,1]") + "}", name);
}

struct Shards {
  Shards() {
    folder.write("1.safetensors", file_with("a"));
    folder.write("2.safetensors", file_with("b"));
  }

  SafetensorsFolder open(const std::string& index) const {
    folder.write(kIndex, index);
    return SafetensorsFolder(folder.path());
  }

  TemporaryFolder folder;
};

} // namespace

TEST_CASE("SafetensorsFolder finds tensors across files", "[checkpoint]") {
  const Shards shards;
  const auto weights = shards.open(
      R"({"metadata":{"total_size":4611686018427387904},
          "weight_map":{"a":"1.safetensors","b":"2.safetensors"},"note":1})");
  CHECK(weights.names() == std::vector<std::string>{"a", "b"});
  CHECK(weights.find("b")->bytes[0] == std::byte{'b'});
  CHECK(weights.file_of("b")->path().filename() == "2.safetensors");
  CHECK(weights.find("c") == nullptr);
  CHECK(weights.total_bytes() == 2);
  CHECK(SafetensorsFolder(shards.folder.path() / kIndex).names().size() == 2);
}

TEST_CASE("SafetensorsFolder opens a file or a folder with one", "[checkpoint]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(
      SafetensorsFolder(folder.path()), ContainsSubstring("holds no model.safetensors"));
  folder.write("model.safetensors", file_with("a"));
  CHECK(SafetensorsFolder(folder.path()).names() == std::vector<std::string>{"a"});
  CHECK(SafetensorsFolder(folder.path() / "model.safetensors").find("a") != nullptr);
  folder.write(kIndex, "{}");
  CHECK_THROWS_WITH(SafetensorsFolder(folder.path()), ContainsSubstring("not meant"));
}

TEST_CASE("SafetensorsFolder never leaves the folder of the index", "[checkpoint]") {
  const Shards shards;
  const auto name = GENERATE(
      as<std::string>(),
      "../2.safetensors",
      "./2.safetensors",
      "sub/2.safetensors",
      "/tmp/2.safetensors",
      "..\\\\2.safetensors",
      "2.safetensors\\u0000.safetensors",
      "",
      "..",
      "/dev/zero",
      "pytorch_model.bin",
      ".safetensors",
      kIndex);
  CAPTURE(name);
  CHECK_THROWS_WITH(
      shards.open(R"({"weight_map":{"a":"1.safetensors","b":")" + name + "\"}}"),
      ContainsSubstring("beside the index"));
}

TEST_CASE("SafetensorsFolder refuses an index that its files contradict", "[checkpoint]") {
  const Shards shards;
  CHECK_THROWS_WITH(
      shards.open(R"({"weight_map":{"a":"1.safetensors","b":"3.safetensors"}})"),
      ContainsSubstring("3.safetensors: cannot open"));
  CHECK_THROWS_WITH(
      shards.open(R"({"weight_map":{"a":"1.safetensors","c":"1.safetensors"}})"),
      ContainsSubstring("'c' is not in 1.safetensors"));
  CHECK_THROWS_WITH(
      shards.open(R"({"weight_map":{"a":"2.safetensors","b":"2.safetensors"}})"),
      ContainsSubstring("'a' is not in 2.safetensors"));
  shards.folder.write("2.safetensors", file_with("a"));
  CHECK_THROWS_WITH(
      shards.open(R"({"weight_map":{"a":"1.safetensors","b":"2.safetensors"}})"),
      ContainsSubstring("'a' lies in 2.safetensors"));
}

TEST_CASE("SafetensorsFolder refuses an index of another form", "[checkpoint]") {
  const Shards shards;
  const auto text = GENERATE(
      as<std::string>(),
      "[]",
      "{}",
      "",
      R"({"weight_map":[]})",
      R"({"weight_map":{}})",
      R"({"weight_map":{"a":1}})",
      R"({"weight_map":{"a":"1.safetensors","a":"1.safetensors"}})",
      R"({"weight_map":{"a":"1.safetensors"}}{})");
  CAPTURE(text);
  CHECK_THROWS_WITH(shards.open(text), ContainsSubstring(kIndex));
}
