#include "moe/checkpoint/safetensors_writer.h"

#include <algorithm>

#include "moe/checkpoint/safetensors_folder.h"
#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

std::vector<std::byte> pattern(size_t size, int start) {
  std::vector<std::byte> bytes(size);
  for (size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(37 * i + static_cast<size_t>(start));
  }
  return bytes;
}

} // namespace

TEST_CASE("write_safetensors gives back every type bit by bit", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  const int last = static_cast<int>(ElementType::u64);
  std::vector<std::vector<std::byte>> contents;
  for (int i = 0; i <= last; ++i) {
    contents.push_back(
        pattern(static_cast<size_t>(element_bits(static_cast<ElementType>(i))) * 3, i));
  }
  std::vector<TensorSource> sources;
  for (int i = 0; i <= last; ++i) {
    const auto type = static_cast<ElementType>(i);
    sources.push_back(tensor_source(
        std::string(element_type_name(type)), type, {4, 6}, contents[static_cast<size_t>(i)]));
  }
  const auto scalar = pattern(4, 9);
  sources.push_back(tensor_source("scalar", ElementType::f32, {}, scalar));
  sources.push_back(tensor_source("empty", ElementType::f64, {3, 0}, {}));
  write_safetensors(path, sources, {{"key", "vålue \"\n"}});

  const SafetensorsFile file(path);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"key", "vålue \"\n"}});
  REQUIRE(file.tensors().size() == contents.size() + 2);
  for (int i = 0; i <= last; ++i) {
    const auto type = static_cast<ElementType>(i);
    const TensorEntry* entry = file.find(element_type_name(type));
    REQUIRE(entry != nullptr);
    CHECK(entry->type == type);
    CHECK(entry->shape == std::vector<int64_t>{4, 6});
    CHECK(std::ranges::equal(entry->bytes, contents[static_cast<size_t>(i)]));
  }
  CHECK(file.find("scalar")->shape.empty());
  CHECK(std::ranges::equal(file.find("scalar")->bytes, scalar));
  CHECK(file.find("empty")->shape == std::vector<int64_t>{3, 0});
}

TEST_CASE(
    "write_safetensors orders by width and name, whatever the order given", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto bytes = pattern(8, 1);
  const std::span<const std::byte> all(bytes);
  std::vector<TensorSource> sources{
      tensor_source("b", ElementType::f32, {1}, all.first(4)),
      tensor_source("c", ElementType::u8, {3}, all.first(3)),
      tensor_source("a", ElementType::f32, {2}, all),
      tensor_source("d", ElementType::f64, {1}, all)};
  write_safetensors(folder.path() / "x.safetensors", sources);
  std::reverse(sources.begin(), sources.end());
  write_safetensors(folder.path() / "y.safetensors", sources);
  const auto text = folder.read("x.safetensors");
  CHECK(text == folder.read("y.safetensors"));
  CHECK(text.substr(8).starts_with(
      R"({"d":{"data_offsets":[0,8],"dtype":"F64","shape":[1]},"a":{)"));
  CHECK(text.find("\"a\"") < text.find("\"b\""));
  CHECK(text.find("\"b\"") < text.find("\"c\""));
  CHECK((text.size() - 8 - 23) % 8 == 0); // header padded to 8 bytes
}

TEST_CASE("write_safetensors refuses what could not be read back", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  const auto bytes = pattern(4, 0);
  const auto source = [&](const std::string& name) {
    return tensor_source(name, ElementType::f32, {1}, bytes);
  };
  CHECK_THROWS_WITH(
      write_safetensors(path, {source("a"), source("a")}), ContainsSubstring("named 'a'"));
  CHECK_THROWS_WITH(
      write_safetensors(path, {source("__metadata__")}), ContainsSubstring("__metadata__"));
  CHECK_THROWS_WITH(write_safetensors(path, {source("\xff")}), ContainsSubstring("UTF-8"));
  CHECK_THROWS_WITH(
      write_safetensors(path, {tensor_source("a", ElementType::f32, {2}, bytes)}),
      ContainsSubstring("gave 4 bytes instead of 8"));
  CHECK_THROWS_WITH(
      write_safetensors(path, {tensor_source("a", ElementType::f32, {-1}, bytes)}),
      ContainsSubstring("[-1]"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("write_safetensors_folder splits at the largest size", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto bytes = pattern(100, 5);
  const auto source = [&](const std::string& name, int64_t size) {
    return tensor_source(
        name, ElementType::u8, {size}, std::span(bytes).first(static_cast<size_t>(size)));
  };
  write_safetensors_folder(
      folder.path(),
      {source("a", 30), source("b", 30), source("c", 100), source("d", 1)},
      {},
      60);
  CHECK(std::filesystem::exists(folder.path() / "model-00003-of-00003.safetensors"));
  const SafetensorsFolder weights(folder.path());
  CHECK(weights.names() == std::vector<std::string>{"a", "b", "c", "d"});
  CHECK(weights.files().size() == 3);
  CHECK(weights.file_of("a") == weights.file_of("b"));
  CHECK(std::ranges::equal(weights.find("c")->bytes, bytes));
  CHECK(weights.total_bytes() == 161);
  CHECK_THAT(
      folder.read("model.safetensors.index.json"), ContainsSubstring("\"total_size\": 161"));
}

TEST_CASE("A full disk leaves the old safetensors file as it was", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.safetensors";
  const auto bytes = pattern(100'000, 3);
  write_safetensors(
      path, {tensor_source("old", ElementType::u8, {10}, std::span(bytes).first(10))});
  {
    const FileSizeLimit limit(50'000);
    CHECK_THROWS_WITH(
        write_safetensors(path, {tensor_source("new", ElementType::u8, {100'000}, bytes)}),
        ContainsSubstring(path.string() + ": cannot write: File too large"));
  }
  CHECK(SafetensorsFile(path).find("old") != nullptr);
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}
