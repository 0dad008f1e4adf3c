#include "tests/apps/programs.h"

#include "tests/support/safetensors_text.h"

using namespace moe;
using namespace moe::testing;

using nlohmann::json;

TEST_CASE("moe-inspect tells what a run's model is made of", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run").string();
  const auto text = run("moe-inspect", {model});
  REQUIRE(text.exit_code == 0);
  for (const char* part :
       {"qwen3_moe", "softmax over", "parameters", "KV cache", "query heads"}) {
    CHECK_THAT(text.out, ContainsSubstring(part));
  }
  CHECK(text.out.find("lm_head") == std::string::npos);
  CHECK_THAT(
      run("moe-inspect", {model, "--tensors"}).out, ContainsSubstring("model.norm.weight"));

  const auto result = json::parse(run("moe-inspect", {model, "--json", "--tensors"}).out);
  CHECK(result["architecture"] == "qwen3_moe");
  CHECK(result["parameters"] > result["active_parameters"]);
  CHECK(result["weight_bytes"] == 4 * result["parameters"].get<int64_t>());
  int64_t elements = 0;
  for (const auto& tensor : result["tensors"]) {
    int64_t count = 1;
    for (const int64_t size : tensor["shape"]) {
      count *= size;
    }
    elements += count;
  }
  CHECK(elements == result["parameters"]);
  CHECK(result["contexts"].back()["length"] == result["options"]["context_length"]);
  CHECK(result["contexts"].back()["kv_cache_bytes"] > 0);
}

TEST_CASE("moe-inspect writes what the model computes", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run").string();
  const auto out = (folder.path() / "out.safetensors").string();
  const std::string data("\x48\0\0\0\0\0\0\0\x69\0\0\0\0\0\0\0", 16);
  const auto ids = folder.write(
      "ids.safetensors",
      safetensors_bytes(
          "{\"input_ids\":" + tensor_json("\"I64\"", "[1,2]", "[0,16]") + "}", data));
  const auto result = run("moe-inspect", {model, "--input-ids", ids, "--out", out});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const auto bytes = read_bytes(out);
  for (const char* name :
       {"\"logits\"", "\"hidden_states.0\"", "\"router_logits.", "\"experts."}) {
    CHECK_THAT(bytes, ContainsSubstring(name));
  }
  CHECK_THAT(
      error_of("moe-inspect", {model, "--input-ids", ids}, 2), ContainsSubstring("--out"));
  CHECK_THAT(error_of("moe-inspect", {}, 2), ContainsSubstring("model is required"));
}

TEST_CASE("moe-convert writes other types, shards and GGUF", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run").string();
  const auto half = (folder.path() / "half").string();
  const auto result =
      run("moe-convert", {model, half, "--dtype", "bfloat16", "--max-shard-size", "20KB"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  const auto before = json::parse(run("moe-inspect", {model, "--json"}).out);
  const auto after = json::parse(run("moe-inspect", {half, "--json"}).out);
  CHECK(after["options"] == before["options"]);
  CHECK(after["weight_bytes"] == before["weight_bytes"].get<int64_t>() / 2);
  CHECK(std::filesystem::exists(folder.path() / "half" / "model.safetensors.index.json"));
  CHECK(
      read_bytes(folder.path() / "half" / "tokenizer.json") ==
      read_bytes(folder.path() / "run" / "best" / "tokenizer.json"));

  // There and back gives the same bytes, which also says that nothing is lost without --dtype.
  const auto copy = (folder.path() / "copy").string();
  REQUIRE(run("moe-convert", {model, copy}).exit_code == 0);
  CHECK(
      read_bytes(folder.path() / "copy" / "model.safetensors") ==
      read_bytes(folder.path() / "run" / "best" / "model.safetensors"));

  const auto gguf = (folder.path() / "model.gguf").string();
  REQUIRE(run("moe-convert", {model, gguf, "--gguf", "f32"}).exit_code == 0);
  CHECK(read_bytes(gguf).substr(0, 4) == "GGUF");

  CHECK_THAT(error_of("moe-convert", {model}, 2), ContainsSubstring("out is required"));
  CHECK_THAT(
      error_of("moe-convert", {"no-model", half}, 1), ContainsSubstring("already there"));
  CHECK_THAT(
      error_of("moe-convert", {model, gguf, "--gguf", "q4"}, 1),
      ContainsSubstring("q4 is not"));
  CHECK_THAT(
      error_of("moe-convert", {model, copy + "2", "--max-shard-size", "big"}, 2),
      ContainsSubstring("is not a size"));
}
