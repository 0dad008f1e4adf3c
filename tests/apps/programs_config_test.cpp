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

TEST_CASE("moe-train: --router fills in what is not given", "[programs]") {
  const TemporaryFolder folder;
  const auto contains = [](const std::string& printed,
                           std::initializer_list<const char*> lines) {
    for (const char* line : lines) {
      CHECK_THAT(printed, ContainsSubstring(std::string("\n") + line + "\n"));
    }
  };
  const auto file = folder.write("preset.toml", "experts_per_token = 4\nnum_experts = 8\n");
  SECTION("a flag wins over a file") {
    const auto printed =
        printed_config({"--config", file, "--router=switch", "--capacity-factor=2"});
    contains(
        printed,
        {"router = \"switch\"",
         "experts_per_token = 1",
         "normalize_weights = false",
         "capacity_factor = 2.0",
         "router_jitter = 0.01",
         "load_balancing_weight = 0.01",
         "router_z_weight = 0.0"});
    CHECK(printed_config({"--config", folder.write("printed.toml", printed)}) == printed);
  }
  SECTION("an option wins over the file that names the router") {
    const auto named =
        folder.write("named.toml", "router = \"dense\"\nnum_experts = 6\nrouter_bias = true\n");
    contains(
        printed_config({"--config", named}), {"experts_per_token = 6", "router_bias = true"});
    contains(
        printed_config({"--config", named, "--experts-per-token=2"}),
        {"experts_per_token = 2"});
  }
  SECTION("what is wrong is named") {
    const auto unknown = run("moe-train", {"--router=swich", "--print-config"});
    CHECK(unknown.exit_code != 0);
    CHECK_THAT(unknown.err, ContainsSubstring("'swich' is not one of switch, gshard"));
    const auto unsafe =
        run("moe-train", training_flags(folder.path() / "run", {"--router=expert-choice"}));
    CHECK(unsafe.exit_code != 0);
    CHECK_THAT(
        unsafe.err,
        ContainsSubstring("tokens after it") && ContainsSubstring("router_sees_future"));
  }
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
