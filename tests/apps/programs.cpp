#include "tests/apps/programs.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace moe::testing {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  size_t begin = 0;
  while (begin < text.size()) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

} // namespace

std::vector<std::string> command(const std::string& program, const Arguments& arguments) {
  std::vector<std::string> result = {std::string(MOE_PROGRAMS) + "/" + program};
  result.insert(result.end(), arguments.begin(), arguments.end());
  return result;
}

ProgramResult run(
    const std::string& program, const Arguments& arguments, const ProgramSettings& settings) {
  auto result = run_program(command(program, arguments), settings);
  INFO(result.err);
  REQUIRE_FALSE(result.timed_out);
  return result;
}

std::string text_source(const std::string& domain) {
  return domain + "=" + MOE_TEST_FIXTURES + "/text/" + domain;
}

Arguments training_flags(const fs::path& out, const Arguments& changes) {
  Arguments flags = {
      "--out=" + out.string(),
      "--data",
      text_source("en"),
      "--data",
      text_source("de"),
      "--tokenizer=bytes",
      "--model-dim=32",
      "--num-layers=2",
      "--num-heads=2",
      "--context-length=64",
      "--num-experts=4",
      "--expert-dim=32",
      "--steps=10",
      "--batch-size=4",
      "--sequence-length=32",
      "--warmup-steps=2",
      "--lr=0.003",
      "--eval-every=5",
      "--eval-tokens=256",
      "--checkpoint-every=4",
      "--keep-checkpoints=100",
      "--threads=1"};
  flags.insert(flags.end(), changes.begin(), changes.end());
  return flags;
}

ProgramResult train(const fs::path& out, const Arguments& changes) {
  auto result = run("moe-train", training_flags(out, changes));
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

ProgramResult resume(const fs::path& out, const Arguments& flags) {
  Arguments arguments = {"--resume", "--out", out.string()};
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  auto result = run("moe-train", arguments);
  INFO(result.err);
  REQUIRE(result.exit_code == 0);
  return result;
}

std::string read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  CAPTURE(path);
  REQUIRE(file.good());
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<nlohmann::json> metrics_of(const fs::path& run) {
  std::vector<nlohmann::json> lines;
  for (const auto& line : lines_of(read_bytes(run / "metrics.jsonl"))) {
    lines.push_back(nlohmann::json::parse(line));
  }
  return lines;
}

std::string repeatable_metrics(const fs::path& run) {
  std::string text;
  for (auto& line : metrics_of(run)) {
    line.erase("tokens_per_s");
    text += line.dump() + "\n";
  }
  return text;
}

void check_same_run(const fs::path& actual, const fs::path& expected) {
  CHECK(repeatable_metrics(actual) == repeatable_metrics(expected));
  REQUIRE(last_step(actual) == last_step(expected));
  // Compared as truth values: their bytes would fill the report of a failure.
  for (const char* file : {"model.safetensors", "training_state.safetensors"}) {
    CAPTURE(file);
    const bool same =
        read_bytes(actual / "last" / file) == read_bytes(expected / "last" / file);
    CHECK(same);
  }
  CHECK(fs::read_symlink(actual / "best") == fs::read_symlink(expected / "best"));
}

int64_t last_step(const fs::path& run) {
  std::error_code error;
  const auto target = fs::read_symlink(run / "last", error).filename().string();
  return error ? -1 : std::stoll(target.substr(target.find('-') + 1));
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> temporaries_in(const fs::path& run) {
  std::vector<std::string> found;
  const auto options = fs::directory_options::skip_permission_denied;
  for (const auto& entry : fs::recursive_directory_iterator(run, options)) {
    const auto name = entry.path().filename().string();
    if (name.find("tmp") != std::string::npos) {
      found.push_back(entry.path().string());
    }
  }
  return found;
}

void wait_for_steps(RunningProgram& program, const fs::path& run, int64_t count) {
  const auto steps = [&] {
    std::ifstream file(run / "metrics.jsonl");
    return std::count(std::istreambuf_iterator<char>(file), {}, '\n');
  };
  while (steps() < count && program.running()) {
    ::usleep(2000);
  }
}

std::string last_error_line(const std::string& program, const std::string& err) {
  INFO(err);
  const auto lines = lines_of(err);
  REQUIRE_FALSE(lines.empty());
  const std::string beginning = program + ": error: ";
  for (const auto& line : lines) {
    CHECK(line.starts_with(beginning) == (&line == &lines.back()));
  }
  REQUIRE(err.ends_with("\n"));
  return lines.back();
}

std::string error_of(
    const std::string& program,
    const Arguments& arguments,
    int exit_code,
    const ProgramSettings& settings) {
  const auto result = run(program, arguments, settings);
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  CHECK(result.out.empty());
  return last_error_line(program, result.err);
}

} // namespace moe::testing
