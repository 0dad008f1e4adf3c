#include "moe/checkpoint/safetensors_file.h"

#include <sys/stat.h>

#include <tuple>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

const std::string kEight(8, '\0');

std::string one(
    const std::string& type = "\"F32\"",
    const std::string& shape = "[2]",
    const std::string& offsets = "[0,8]",
    const std::string& data = kEight) {
  return safetensors_bytes("{\"a\":" + tensor_json(type, shape, offsets) + "}", data);
}

std::string two(const std::string& first, const std::string& second, size_t size) {
  return safetensors_bytes(
      "{\"a\":" + tensor_json("\"F32\"", "[2]", first) +
          ",\"b\":" + tensor_json("\"F32\"", "[2]", second) + "}",
      std::string(size, '\0'));
}

std::string refusal(const std::string& bytes) {
  const TemporaryFolder folder;
  const auto path = folder.write("x.safetensors", bytes);
  try {
    const SafetensorsFile file(path);
  } catch (const Error& error) {
    const std::string text = error.what();
    CHECK(text.starts_with(path + ": "));
    CHECK(text.find('\n') == std::string::npos);
    CHECK(text.size() < 600);
    return text;
  }
  return "accepted";
}

} // namespace

TEST_CASE("SafetensorsFile reads names, types, shapes, bytes and metadata", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder.write(
      "x.safetensors",
      safetensors_bytes(
          "{\"__metadata__\":{\"format\":\"pt\"},\"b\":" +
              tensor_json("\"U8\"", "[1]", "[4,5]") +
              ",\"a\":" + tensor_json("\"BF16\"", "[2,1]", "[0,4]") + "}  ",
          "abcde"));
  const SafetensorsFile file(path);
  REQUIRE(file.tensors().size() == 2);
  CHECK(file.tensors()[0].name == "a");
  CHECK(file.tensors()[0].type == ElementType::bf16);
  CHECK(file.tensors()[0].shape == std::vector<int64_t>{2, 1});
  CHECK(file.tensors()[0].bytes[3] == std::byte{'d'});
  REQUIRE(file.find("b") != nullptr);
  CHECK(file.find("b")->bytes[0] == std::byte{'e'});
  CHECK(file.find("c") == nullptr);
  CHECK(file.metadata().at("format") == "pt");
}

TEST_CASE("SafetensorsFile accepts what looks odd and is legal", "[checkpoint]") {
  const auto [why, bytes] = GENERATE(table<std::string, std::string>({
      {"no tensors", safetensors_bytes("{}")},
      {"rank 0", one("\"F32\"", "[]", "[0,4]", "1234")},
      {"no elements", one("\"F32\"", "[0,4294967296]", "[0,0]", "")},
      {"empty between others",
       safetensors_bytes(
           "{\"a\":" + tensor_json("\"U8\"", "[1]", "[0,1]") +
               ",\"e\":" + tensor_json("\"F32\"", "[3,0]", "[1,1]") +
               ",\"b\":" + tensor_json("\"F32\"", "[1]", "[1,5]") + "}",
           "12345")},
      {"unknown field",
       safetensors_bytes(
           R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1],"note":"x"}})", "1")},
      {"name with escapes",
       safetensors_bytes("{\"\\u00e9\\n\\u0000\":" + tensor_json() + "}", kEight)},
      {"empty name", safetensors_bytes("{\"\":" + tensor_json() + "}", kEight)},
  }));
  CAPTURE(why);
  CHECK(refusal(bytes) == "accepted");
}

TEST_CASE("SafetensorsFile refuses damaged lengths and other kinds of files", "[checkpoint]") {
  const auto [bytes, text] = GENERATE(table<std::string, std::string>({
      {"", "only 0 bytes"},
      {"1234567", "only 7 bytes"},
      {std::string(4096, '\0'), "does not begin with '{'"},
      {safetensors_bytes("{}", "", 3), "should have 3 bytes"},
      {safetensors_bytes("{}", "", INT64_MAX), "cut off"},
      {std::string(64, '\xff'), "18446744073709551615 bytes"},
      {safetensors_bytes(" {}"), "does not begin with '{'"},
      {safetensors_bytes("{}", "12345678"), "8 bytes after the last tensor"},
      {one("\"F32\"", "[2]", "[0,8]", "1234567"), "do not lie in the 7 bytes"},
      {"PK\x03\x04" + std::string(60, '\0'), "zip archive"},
      {"\x80\x02}q" + std::string(60, '\0'), "pickle"},
      {"GGUF" + std::string(60, '\0'), "GGUF"},
      {"<!DOCTYPE html><html></html>", "HTML"},
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
  }));
  CHECK_THAT(refusal(bytes), ContainsSubstring(text));
}

TEST_CASE("SafetensorsFile refuses headers that parsers read differently", "[checkpoint]") {
  const auto header = GENERATE(
      as<std::string>(),
      "{\"a\":" + tensor_json() + ",\"a\":" + tensor_json() + "}",
      "{\"a\":" + tensor_json() + "}{}",
      "{\"a\":" + tensor_json() + "}" + std::string(3, '\0'),
      "{\"a\":" + tensor_json() + ",}",
      "{\"__metadata__\":null,\"a\":" + tensor_json() + "}",
      "{\"__metadata__\":{\"x\":1},\"a\":" + tensor_json() + "}",
      "{\"__metadata__\":{\"x\":\"1\",\"x\":\"2\"},\"a\":" + tensor_json() + "}",
      R"({"a":["F32",[2],[0,8]]})",
      R"({"a":{"shape":[2],"data_offsets":[0,8]}})",
      R"({"a":{"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}})",
      "{\"\\ud800\":" + tensor_json() + "}",
      "{\"\xc0\xaf\":" + tensor_json() + "}",
      "{\"a\":" + std::string(100'000, '['));
  CHECK(refusal(safetensors_bytes(header, kEight)) != "accepted");
}

TEST_CASE("SafetensorsFile refuses impossible types, shapes and places", "[checkpoint]") {
  SECTION("types and shapes") {
    const auto [type, shape] = GENERATE(table<std::string, std::string>({
        {"\"F128\"", "[2]"},
        {"\"f32\"", "[2]"},
        {"0", "[2]"},
        {"\"F64\"", "[2]"},
        {"\"F32\"", "[1]"},
        {"\"F32\"", "[-2]"},
        {"\"F32\"", "[2.0]"},
        {"\"F32\"", "[-0,2]"},
        {"\"F32\"", "2"},
        {"\"F32\"", "[null]"},
        {"\"F32\"", "[[2]]"},
        {"\"F32\"", "[4611686018427387906]"},
        {"\"F32\"", "[18446744073709551618]"},
    }));
    CAPTURE(type, shape);
    CHECK_THAT(refusal(one(type, shape)), ContainsSubstring("tensor 'a'"));
  }
  SECTION("sizes whose product overflows") {
    const auto [type, shape] = GENERATE(table<std::string, std::string>({
        {"\"F64\"", "[2305843009213693952]"},
        {"\"U8\"", "[4294967296,4294967296]"},
        {"\"F32\"", "[4294967296,4294967296,4294967296,0]"},
    }));
    CHECK(refusal(one(type, shape, "[0,0]", "")) != "accepted");
    CHECK(refusal(one("\"F4\"", "[3]", "[0,1]", "1")) != "accepted"); // 12 bits
  }
  SECTION("places") {
    const auto offsets = GENERATE(
        as<std::string>(),
        "[8,0]",
        "[0,16]",
        "[-8,0]",
        "[0.0,8.0]",
        "[8]",
        "[0,8,8]",
        "null",
        "[18446744073709551612,4]",
        "[false,true]");
    CAPTURE(offsets);
    CHECK_THAT(refusal(one("\"F32\"", "[2]", offsets)), ContainsSubstring("tensor 'a'"));
  }
  CHECK_THAT(refusal(two("[0,8]", "[4,12]", 12)), ContainsSubstring("'b' overlaps"));
  CHECK_THAT(refusal(two("[0,8]", "[0,8]", 8)), ContainsSubstring("overlaps"));
  CHECK_THAT(refusal(two("[0,8]", "[12,20]", 20)), ContainsSubstring("'b' has a gap"));
  CHECK_THAT(refusal(two("[4,12]", "[12,20]", 20)), ContainsSubstring("'a' has a gap"));
}

TEST_CASE("SafetensorsFile opens regular files only", "[checkpoint]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(
      SafetensorsFile(folder.path() / "none"), ContainsSubstring("No such file or directory"));
  CHECK_THROWS_WITH(SafetensorsFile(folder.path()), ContainsSubstring("is a folder"));
  CHECK_THROWS_WITH(SafetensorsFile("/dev/zero"), ContainsSubstring("not a regular file"));
  const auto pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(SafetensorsFile(pipe), ContainsSubstring("not a regular file"));
}

TEST_CASE("SafetensorsFile reads 20,000 tensors, also all at one empty place", "[checkpoint]") {
  const bool empty = GENERATE(false, true);
  std::string header = "{";
  for (int i = 0; i < 20'000; ++i) {
    const auto place = empty ? std::string("[0,0]")
                             : "[" + std::to_string(i) + "," + std::to_string(i + 1) + "]";
    header += (i == 0 ? "\"t" : ",\"t") + std::to_string(i) +
              "\":" + tensor_json("\"U8\"", empty ? "[0]" : "[1]", place);
  }
  const TemporaryFolder folder;
  const SafetensorsFile file(folder.write(
      "x.safetensors", safetensors_bytes(header + "}", std::string(empty ? 0 : 20'000, '\0'))));
  CHECK(file.tensors().size() == 20'000);
  CHECK(file.find("t19999") != nullptr);
}
