#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

using nlohmann::json;

namespace {

json inspect(const std::filesystem::path& model) {
  const auto result = run("moe-inspect", {model.string(), "--json"});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return json::parse(result.out);
}

ProgramResult edit(const Arguments& arguments) {
  auto result = run("moe-edit", arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

} // namespace

TEST_CASE("moe-edit grow, then moe-train --only new-experts", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run").string();
  const auto grown = (folder.path() / "grown").string();
  const auto result = edit(
      {"grow",
       model,
       grown,
       "--experts",
       "2",
       "--data",
       text_source("de"),
       "--keep",
       text_source("en"),
       "--tokens",
       "512",
       "--evaluate",
       text_source("en")});
  CHECK_THAT(result.err, ContainsSubstring("layer 1: new experts are copies of"));
  CHECK_THAT(result.out, ContainsSubstring("loss before"));
  CHECK(inspect(grown)["options"]["num_experts"] == 6);
  CHECK(inspect(grown)["architecture"] == "qwen3_moe");
  const auto record = folder.read("grown/new_experts.json");
  CHECK(json::parse(record)["layers"][1]["experts"] == json({4, 5}));
  CHECK(
      folder.read("grown/tokenizer.json") ==
      read_bytes(folder.path() / "run" / "best" / "tokenizer.json"));

  const auto trained = folder.path() / "trained";
  const Arguments flags = {
      "--out=" + trained.string(),
      "--from=" + grown,
      "--only=new-experts",
      "--data",
      text_source("de"),
      "--steps=6",
      "--batch-size=2",
      "--sequence-length=32",
      "--threads=1"};
  auto stopped = flags;
  stopped.push_back("--stop-after=3");
  REQUIRE(run("moe-train", stopped).exit_code == 0);
  CHECK(read_bytes(trained / "last" / "new_experts.json") == record);
  const auto config = read_bytes(trained / "config.toml");
  CHECK_THAT(config, ContainsSubstring("load_balancing_weight = 0.0"));
  CHECK_THAT(config, ContainsSubstring("selection_bias_rate = 0.0\n"));
  resume(trained);
  CHECK(read_bytes(trained / "last" / "new_experts.json") == record);
  CHECK(metrics_of(trained).size() == 6);

  CHECK_THAT(
      error_of(
          "moe-train",
          {"--out=" + trained.string() + "2",
           "--from=" + model,
           "--only=new-experts",
           "--data",
           text_source("de"),
           "--steps=1",
           "--batch-size=2",
           "--sequence-length=32"},
          1,
          {}),
      ContainsSubstring("the model has no record of new experts"));
}

TEST_CASE("moe-edit upcycles, prunes, collapses and merges", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run", {"--num-experts=0", "--dense-dim=48"});
  const auto dense = (folder.path() / "run").string();
  const auto path = [&](const char* name) { return (folder.path() / name).string(); };
  const auto upcycled = edit(
      {"upcycle",
       dense,
       path("mixture"),
       "--experts",
       "8",
       "--experts-per-token",
       "4",
       "--parts",
       "2",
       "--evaluate",
       text_source("en")});
  CHECK_THAT(upcycled.out, ContainsSubstring("0.00%"));
  CHECK(inspect(path("mixture"))["options"]["expert_dim"] == 24);
  edit(
      {"prune",
       path("mixture"),
       path("pruned"),
       "--share",
       "0.75",
       "--data",
       text_source("en"),
       "--tokens",
       "512"});
  CHECK(inspect(path("pruned"))["options"]["num_experts"] == 6);
  edit(
      {"collapse",
       path("mixture"),
       path("again"),
       "--method",
       "concatenate",
       "--data",
       text_source("en"),
       "--tokens",
       "512"});
  CHECK(inspect(path("again"))["options"]["dense_dim"] == 192);
  CHECK(inspect(path("again"))["architecture"] == "qwen3");
  edit(
      {"merge",
       path("merged"),
       "--model",
       dense,
       "--model",
       path("run"),
       "--data",
       text_source("en"),
       "--data",
       text_source("de"),
       "--tokens",
       "512"});
  CHECK(inspect(path("merged"))["options"]["num_experts"] == 2);
}

TEST_CASE("moe-edit lora merges what moe-train --lora-rank learned", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run").string();
  const auto tuned = folder.path() / "tuned";
  const auto result =
      run("moe-train",
          {"--out=" + tuned.string(),
           "--from=" + model,
           "--lora-rank=2",
           "--lr=0.1",
           "--data",
           text_source("de"),
           "--steps=6",
           "--batch-size=2",
           "--sequence-length=32",
           "--threads=1"});
  REQUIRE(result.exit_code == 0);
  const auto merged = (folder.path() / "merged").string();
  const auto adapter = (tuned / "last" / "adapter").string();
  CHECK_THAT(
      edit({"lora", model, adapter, merged, "--evaluate", text_source("de")}).err,
      ContainsSubstring("merged 4 adapted matrices or stacks"));
  const auto loss = [&](const std::string& path) {
    const auto evaluated =
        run("moe-evaluate", {path, "--data", text_source("de"), "--json", "--threads=1"});
    REQUIRE(evaluated.exit_code == 0);
    return json::parse(evaluated.out)["loss"].get<double>();
  };
  const double last = loss((tuned / "last").string());
  CHECK_THAT(loss(merged), WithinAbs(last, 1e-5));
  CHECK(std::abs(loss(model) - last) > 1e-3);
}

TEST_CASE("moe-edit: mistakes are named", "[programs]") {
  const TemporaryFolder folder;
  train(folder.path() / "run");
  const auto model = (folder.path() / "run").string();
  const auto out = (folder.path() / "out").string();
  const auto says = [](const Arguments& arguments, int code, const std::string& message) {
    CHECK_THAT(error_of("moe-edit", arguments, code), ContainsSubstring(message));
  };
  CHECK_THAT(run("moe-edit", {"--help"}).out, ContainsSubstring("upcycle"));
  says({}, 2, "no operation is given");
  says({"shrink"}, 2, "there is no operation 'shrink'");
  says({"grow", model}, 2, "out is required");
  says({"grow", model, out, "--keep", text_source("en")}, 2, "--keep: needs --data");
  says({"grow", model, out, "--experts", "9"}, 1, "experts: 9 new ones are not possible");
  says({"grow", model, out, "--data", text_source("en"), "--tokens", "0"}, 2, "--tokens: 0");
  says({"grow", "no-model", model}, 1, model + ": is already there");
  says({"upcycle", model, out}, 1, "the model has experts already");
  says({"prune", model, out, "--data", text_source("en")}, 2, "--experts or --share");
  says({"prune", model, out, "--experts", "3"}, 2, "--data: no text is given");
  says({"collapse", model, out, "--weights", "1,2"}, 1, "weights: 2 numbers for 4 experts");
  says({"merge", out, "--model", model}, 2, "--model: at least two");
  says({"lora", model, out}, 2, "out is required");
  says({"lora", model, model, out}, 1, "adapter_config.json");
  says(
      {"merge", out, "--model", model, "--model", model, "--data", text_source("en")},
      2,
      "--data: 1 texts for 2 models");
  CHECK_FALSE(std::filesystem::exists(out));
}
