#include <filesystem>
#include <regex>
#include <set>
#include <sstream>

#include "tests/apps/programs.h"
#include "tests/support/golden.h"

using namespace moe::testing;

namespace {

/// The keys and values that --print-config prints, without its comments.
std::string printed_options(Arguments flags) {
  flags.push_back("--print-config");
  const auto result = run("moe-train", flags);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  std::istringstream lines(result.out);
  std::string options;
  for (std::string line; std::getline(lines, line);) {
    options += line.empty() || line[0] == '#' ? "" : line + "\n";
  }
  return options;
}

std::string preset_file(const std::string& name) {
  return std::string(MOE_PRESETS) + "/" + name + ".toml";
}

/// Every flag that --help names, one a line, sorted.
std::string flags_of(const std::string& program, Arguments operation = {}) {
  operation.push_back("--help");
  const auto result = run(program, operation);
  REQUIRE(result.exit_code == 0);
  const std::regex flag(R"(\n +(?:-[a-z], )?(--[^ \n]+))");
  std::set<std::string> flags;
  for (std::sregex_iterator match(result.out.begin(), result.out.end(), flag), end;
       match != end;
       ++match) {
    flags.insert((*match)[1].str() + "\n");
  }
  REQUIRE(flags.count("--help\n") == 1);
  std::string lines;
  for (const auto& line : flags) {
    lines += line;
  }
  return lines;
}

} // namespace

TEST_CASE("What --print-config prints of every preset is as it was", "[programs]") {
  for (const auto& entry : std::filesystem::directory_iterator(MOE_PRESETS)) {
    if (entry.path().extension() == ".toml") {
      const auto preset = entry.path().stem().string();
      check_golden(
          "options/toml/" + preset + ".toml",
          printed_options({"--config", preset_file(preset)}));
    }
  }
}

TEST_CASE("What --print-config prints of every router is as it was", "[programs]") {
  for (const char* router :
       {"switch",
        "gshard",
        "mixtral",
        "olmoe",
        "deepseek-v2",
        "deepseek-v3",
        "gpt-oss",
        "llama4",
        "st-moe",
        "expert-choice",
        "dense"}) {
    check_golden(
        "options/toml/router-" + std::string(router) + ".toml",
        printed_options({"--config", preset_file("nano"), "--router", router}));
  }
}

TEST_CASE("The flags of every program are as they were", "[programs]") {
  for (const char* program :
       {"moe-prepare",
        "moe-train",
        "moe-evaluate",
        "moe-generate",
        "moe-inspect",
        "moe-report",
        "moe-convert"}) {
    check_golden("options/flags/" + std::string(program) + ".txt", flags_of(program));
  }
  for (const std::string operation :
       {"grow", "upcycle", "prune", "collapse", "merge", "lora"}) {
    check_golden(
        "options/flags/moe-edit-" + operation + ".txt", flags_of("moe-edit", {operation}));
  }
}
