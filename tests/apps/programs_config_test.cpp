#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

std::string printed_config(Arguments flags) {
  flags.push_back("--print-config");
  const auto result = run("moe-train", flags);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  CHECK(result.err.empty());
  return result.out;
}

} // namespace

TEST_CASE("What --print-config prints is what --config reads", "[programs]") {
  const TemporaryFolder folder;
  const auto preset = folder.write(
      "preset.toml",
      "lr = 3e-3 # peak\nsteps = 7\nmix = [\"a#b=1\", \"c=2.5\"]\nqk_norm = false\n");
  const auto printed = printed_config({"--config", preset, "--steps=9", "--dense-layers=0,1"});
  for (const char* line :
       {"\nlr = 0.003\n",
        "\nsteps = 9\n",
        "\nmix = [\"a#b=1\", \"c=2.5\"]\n",
        "\nqk_norm = false\n",
        "\ndense_layers = [0, 1]\n",
        "\nseed = 0\n"}) {
    CHECK_THAT(printed, ContainsSubstring(line));
  }
  CHECK(printed_config({"--config", folder.write("printed.toml", printed)}) == printed);
}

TEST_CASE("The configuration of a run repeats it bit for bit", "[programs]") {
  const TemporaryFolder folder;
  const auto first = folder.path() / "first";
  const auto second = folder.path() / "second";
  train(first, {"--seed=5", "--dense-layers=0", "--num-kv-heads=1"});
  const auto result = run(
      "moe-train", {"--config", (first / "config.toml").string(), "--out", second.string()});
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  check_same_run(second, first);
  CHECK(read_bytes(second / "config.toml") == read_bytes(first / "config.toml"));

  // The command line wins over the file.
  const auto third = folder.path() / "third";
  const auto changed =
      run("moe-train",
          {"--config",
           (first / "config.toml").string(),
           "--out",
           third.string(),
           "--seed=6",
           "--steps=2"});
  REQUIRE(changed.exit_code == 0);
  const auto lines = metrics_of(third);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0]["loss"] != metrics_of(first)[0]["loss"]);
}

TEST_CASE("Every preset is a configuration", "[programs]") {
  for (const auto& entry : std::filesystem::directory_iterator(MOE_PRESETS)) {
    if (entry.path().extension() == ".toml") {
      CAPTURE(entry.path());
      CHECK_THAT(
          printed_config({"--config", entry.path().string()}), ContainsSubstring("model_dim"));
    }
  }
}
