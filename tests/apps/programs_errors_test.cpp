#include <unistd.h>

#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

namespace fs = std::filesystem;

/// A mistake, and what the line about it must say.
struct Mistake {
  Arguments flags;
  int exit_code;
  std::vector<std::string> said;
};

void check_mistake(const std::string& program, const Arguments& flags, const Mistake& mistake) {
  const auto error = error_of(program, flags, mistake.exit_code);
  CAPTURE(flags.back());
  for (const auto& text : mistake.said) {
    CHECK_THAT(error, ContainsSubstring(text));
  }
}

/// Trains with each mistake in flags that are right otherwise; nothing of a run may appear.
void check_training_mistakes(const std::vector<Mistake>& mistakes) {
  const TemporaryFolder folder;
  for (const auto& mistake : mistakes) {
    const auto out = folder.path() / "run";
    check_mistake("moe-train", training_flags(out, mistake.flags), mistake);
    CHECK_FALSE(fs::exists(out));
  }
}

/// Changes one byte of a file, or cuts it off there.
void damage(const fs::path& path, size_t position, bool cut_off) {
  auto bytes = read_bytes(path);
  REQUIRE(position < bytes.size());
  bytes[position] = static_cast<char>(bytes[position] ^ 0x55);
  std::ofstream(path, std::ios::binary) << (cut_off ? bytes.substr(0, position) : bytes);
}

} // namespace

TEST_CASE("Wrong flags are named", "[programs]") {
  const TemporaryFolder folder;
  const auto preset = [&](const char* name, const char* text) {
    return "--config=" + folder.write(name, text);
  };
  check_training_mistakes({
      {{"--learning-rate=1"}, 2, {"unknown flag '--learning-rate'"}},
      {{"--expert-per-token=1"}, 2, {"did you mean '--experts-per-token'?"}},
      {{"--steps=ten"}, 2, {"--steps", "'ten'", "whole number"}},
      {{"--steps"}, 2, {"--steps", "value is missing"}},
      {{preset("key.toml", "expert_per_token = 2\n")},
       2,
       {"key.toml line 1", "'expert_per_token'", "did you mean 'experts_per_token'?"}},
      {{preset("type.toml", "# sizes\nnum_layers = \"two\"\n")},
       2,
       {"type.toml line 2", "num_layers", "a whole number", "\"two\""}},
      {{preset("syntax.toml", "steps = = 3\n")}, 2, {"syntax.toml line 1"}},
      {{"--config=missing.toml"}, 2, {"--config", "missing.toml", "no such file"}},
      {{"--resume"}, 2, {"--resume", "no run"}},
      {{"--stop-after=-1"}, 2, {"--stop-after: -1 is not possible"}},
      {{"--router-groups=2"}, 2, {"--router-groups: 2 needs", "groups_by_max"}},
      {{preset("groups.toml", "router_groups = 2\n")}, 2, {"router_groups in", "groups.toml"}},
      {{"--capacity-drop=score"}, 2, {"--capacity-drop: score needs a capacity_factor"}},
      {{"--out=" + folder.write("file", "")}, 2, {"--out: ", "file is a file"}},
  });
  check_mistake("moe-train", {"--out", "x"}, {{}, 2, {"--data"}});
  check_mistake("moe-train", {"--data", "x"}, {{}, 2, {"--out"}});
}

TEST_CASE("Impossible sizes are named before anything is written", "[programs]") {
  check_training_mistakes({
      {{"--experts-per-token=5"}, 1, {"experts_per_token", "5", "4"}},
      {{"--num-heads=3", "--head-dim=0"}, 1, {"num_heads", "3", "32"}},
      {{"--num-heads=4", "--num-kv-heads=3"}, 1, {"num_kv_heads", "3", "4"}},
      {{"--sequence-length=65"}, 1, {"sequence_length", "65", "64"}},
      {{"--tokenizer=bpe:100"}, 1, {"tokenizer", "bpe:100", "257"}},
      {{"--tokenizer=missing.json"}, 1, {"tokenizer", "missing.json"}},
      {{"--device=tpu"}, 2, {"device", "tpu", "cuda"}},
      {{"--freeze=routers"}, 1, {"freeze: routers is not one of"}},
      {{"--lora-alpha=4"}, 1, {"lora_rank: 0 is not possible; at least 1 beside lora_alpha"}},
  });
  // What needs the model, too, is said before the text is encoded.
  const TemporaryFolder folder;
  const auto flags = training_flags(folder.path() / "run", {"--only=experts=4"});
  const auto result = run("moe-train", flags);
  CHECK(result.exit_code == 1);
  CHECK_THAT(
      result.err, ContainsSubstring("there are 4 experts") && !ContainsSubstring("held out"));
}

TEST_CASE("A device that is not there is named", "[programs]") {
  // No device is visible to the program, whatever the machine has.
  const TemporaryFolder folder;
  const auto error = error_of(
      "moe-train",
      training_flags(folder.path() / "run", {"--device=cuda"}),
      1,
      {.environment = {{"CUDA_VISIBLE_DEVICES", ""}}});
  CHECK_THAT(error, ContainsSubstring("device"));
  CHECK_THAT(error, ContainsSubstring("use cpu"));
}

TEST_CASE("Text that cannot be used is named", "[programs]") {
  const TemporaryFolder folder;
  const auto data = [&](const std::string& path) { return "--data=" + path; };
  fs::create_directories(folder.path() / "hollow");
  check_training_mistakes({
      {{data("missing.txt")}, 1, {"missing.txt", "no such file"}},
      {{data(folder.write("empty.txt", ""))}, 1, {"empty.txt"}},
      {{data(folder.write("blank.txt", " \n\n \n"))}, 1, {"blank.txt"}},
      {{data((folder.path() / "hollow").string())}, 1, {"hollow"}},
      {{data(folder.write(
           "latin1.txt",
           "Gr\xF6\xDF"
           "e\n"))},
       1,
       {"latin1.txt", "UTF-8", " 2"}},
      {{data(folder.write("text.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n"))},
       1,
       {"text.jsonl:2", "text"}},
      {{"--val-data=fr=" + std::string(MOE_TEST_FIXTURES) + "/text/en"}, 1, {"val_data", "fr"}},
      {{"--mix=fr=1"}, 1, {"mix", "fr"}},
  });
  // Text of one domain alone: shorter than one sequence, or too short to divide.
  const auto out = folder.path() / "run";
  const auto check_short = [&](const Mistake& mistake) {
    Arguments flags = {"--out=" + out.string(), "--tokenizer=bytes", "--threads=1"};
    flags.insert(flags.end(), mistake.flags.begin(), mistake.flags.end());
    check_mistake("moe-train", flags, mistake);
    CHECK_FALSE(fs::exists(out));
  };
  std::string words;
  while (words.size() < 200) {
    words += "some words ";
  }
  check_short(
      {{data("short=" + folder.write("short.txt", words))}, 1, {"short", "sequence_length"}});
  check_short(
      {{data("tiny=" + folder.write("tiny.txt", "Few words.\n"))}, 1, {"'tiny'", "5 %"}});

  if (::geteuid() != 0) {
    const auto secret = folder.write("secret.txt", "text\n");
    fs::permissions(secret, fs::perms::none);
    check_training_mistakes({{{data(secret)}, 1, {"secret.txt", "Permission denied"}}});
  }
}

TEST_CASE("Conversations whose replies begin too late are named", "[programs]") {
  const TemporaryFolder folder;
  const auto base = folder.path() / "base";
  const auto ready = (folder.path() / "ready").string();
  train(base, {"--steps=1"});
  REQUIRE(run("moe-convert", {base.string(), ready, "--chat-format", "chatml"}).exit_code == 0);
  const auto conversations = [&](const char* name, size_t question) {
    std::string lines;
    for (int i = 0; i < 60; ++i) {
      lines += R"({"messages": [{"role": "user", "content": ")" + std::string(question, 'x') +
               R"("}, {"role": "assistant", "content": "aaaa"}]})" + "\n";
    }
    return std::string("=") + folder.write(name, lines);
  };
  const auto brief = conversations("brief.jsonl", 1);
  const auto lengthy = conversations("lengthy.jsonl", 50);
  const auto out = folder.path() / "run";
  const Arguments flags = {
      "--out=" + out.string(),
      "--from=" + ready,
      "--steps=2",
      "--batch-size=2",
      "--sequence-length=32",
      "--threads=1"};
  const auto check_named = [&](const Arguments& data, const std::string& said) {
    auto arguments = flags;
    arguments.insert(arguments.end(), data.begin(), data.end());
    const auto result = run("moe-train", arguments);
    CHECK(result.exit_code == 1);
    const auto error = last_error_line("moe-train", result.err);
    CHECK_THAT(error, ContainsSubstring(said) && ContainsSubstring("sequence_length"));
    CHECK_FALSE(fs::exists(out));
  };
  check_named({"--data=late" + lengthy}, "domain 'late' has no reply to learn");
  check_named({"--data=a" + brief, "--data=late" + lengthy}, "domain 'late' has no reply");
  check_named({"--data=a" + brief, "--val-data=a" + lengthy}, "domain 'a' has no token");
  check_mistake(
      "moe-evaluate",
      {ready, "--data=late" + lengthy, "--sequence-length=32", "--threads=1"},
      {{}, 1, {"domain 'late' has no token to predict"}});
}

TEST_CASE("An evaluation that fails does not lose the steps before it", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(
      out,
      {"--val-data",
       text_source("en"),
       "--val-data",
       text_source("de"),
       "--eval-tokens=4096",
       "--eval-every=0",
       "--checkpoint-every=0",
       "--stop-after=4"});
  // An id that the vocabulary does not have, after the first batch.
  const auto path = out / "data" / "en.held_out.tokens";
  auto bytes = read_bytes(path);
  const size_t place = 56 + 2 * size_t{1000};
  REQUIRE(place + 1 < bytes.size());
  bytes[place] = bytes[place + 1] = static_cast<char>(0xFF);
  std::ofstream(path, std::ios::binary) << bytes;
  const auto result = run("moe-train", {"--resume", "--out", out.string()});
  CHECK(result.exit_code == 1);
  CHECK_THAT(result.err, ContainsSubstring("en.held_out.tokens"));
  CHECK(last_step(out) == 10);
  CHECK(metrics_of(out).size() == 10);
}

TEST_CASE("A damaged checkpoint is named", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out, {"--steps=2", "--checkpoint-every=0"});
  const auto intact = out / "checkpoints" / "step-00000002";
  const auto model = folder.path() / "model";
  const auto check_damage = [&](const char* file,
                                size_t position,
                                bool cut_off,
                                const std::vector<std::string>& said) {
    fs::remove_all(model);
    fs::copy(intact, model);
    damage(model / file, position, cut_off);
    CAPTURE(file, position, cut_off);
    check_mistake("moe-generate", {model.string(), "--prompt=a", "--threads=1"}, {{}, 1, said});
  };
  check_damage("model.safetensors", 5000, true, {"model.safetensors"});
  check_damage("model.safetensors", 4, true, {"model.safetensors"});
  check_damage("model.safetensors", 1, false, {"model.safetensors"});
  const auto type = read_bytes(intact / "model.safetensors").find("F32");
  check_damage("model.safetensors", type, false, {"model.safetensors"});
  check_damage("config.json", 20, true, {"config.json"});
  check_damage("config.json", 0, false, {"config.json"});
  check_damage("tokenizer.json", 100, true, {"tokenizer.json"});

  // The only one of a run.
  damage(intact / "training_state.safetensors", 1000, true);
  check_mistake(
      "moe-train",
      {"--resume", "--out", out.string()},
      {{}, 1, {"training_state.safetensors", "no checkpoint can be read"}});
  damage(intact / "config.json", 3, true);
  check_mistake(
      "moe-evaluate",
      {out.string(), "--data", text_source("en"), "--threads=1"},
      {{}, 1, {"config.json"}});
}

TEST_CASE("Mistakes at evaluation and generation are named", "[programs]") {
  const TemporaryFolder folder;
  const auto out = (folder.path() / "run").string();
  train(out, {"--steps=2", "--checkpoint-every=0"});
  const auto threads = std::string("--threads=1");
  check_mistake("moe-evaluate", {out}, {{}, 2, {"--data"}});
  check_mistake("moe-evaluate", {out, "--data=missing.txt", threads}, {{}, 1, {"missing.txt"}});
  check_mistake(
      "moe-evaluate",
      {out, "--data=" + folder.write("bad.txt", "ab\xFF\n"), threads},
      {{}, 1, {"bad.txt", "UTF-8", " 2"}});
  check_mistake("moe-evaluate", {"no-run", "--data=x"}, {{}, 1, {"no-run", "no such folder"}});
  check_mistake("moe-evaluate", {folder.path().string(), "--data=x"}, {{}, 1, {"config.json"}});
  check_mistake(
      "moe-evaluate",
      {out, "--data", text_source("en"), "--checkpoint=7", threads},
      {{}, 1, {"step-00000007"}});
  check_mistake(
      "moe-evaluate",
      {out, "--data", text_source("en"), "--sequence-length=65", threads},
      {{}, 1, {"sequence_length: 65 is more than the model's context_length (64)"}});
  check_mistake("moe-generate", {out}, {{}, 2, {"--prompt"}});
  check_mistake("moe-generate", {"--prompt=a"}, {{}, 2, {"model"}});
  check_mistake("moe-generate", {out, "--promt=a"}, {{}, 2, {"did you mean '--prompt'?"}});
  check_mistake(
      "moe-generate",
      {out, "--prompt=" + std::string(64, 'x'), threads},
      {{}, 1, {"prompt", "64 tokens", "context of 64"}});
  check_mistake(
      "moe-generate", {out, "--prompt=a", "--temperature=-1"}, {{}, 1, {"temperature", "-1"}});
  check_mistake("moe-generate", {out, "--prompt=a\xFF", threads}, {{}, 1, {"prompt", "UTF-8"}});
}

TEST_CASE("A closed output ends a program quietly", "[programs]") {
  const TemporaryFolder folder;
  const auto out = (folder.path() / "run").string();
  train(out, {"--steps=1"});
  const auto result = run_program(
      {"/bin/sh",
       "-c",
       std::string(MOE_PROGRAMS) + "/moe-generate " + out + " --prompt=a --threads=1 | true"});
  CHECK(result.err.empty());
}
