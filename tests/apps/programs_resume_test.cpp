#include <signal.h>
#include <unistd.h>

#include <random>

#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

namespace fs = std::filesystem;

bool is_saving(const fs::path& run) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", error)) {
    if (entry.path().filename().string().starts_with(".tmp-")) {
      return true;
    }
  }
  return false;
}

/// Waits until `run` has `steps` lines of metrics and is in the middle of a save.
void wait_for_save(RunningProgram& program, const fs::path& run, int64_t steps) {
  wait_for_steps(program, run, steps);
  while (!is_saving(run) && program.running()) {
    ::usleep(100);
  }
}

} // namespace

TEST_CASE("Noise, jitter and dropped rows are the same after a resume", "[programs]") {
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole";
  const auto parts = folder.path() / "parts";
  Arguments changes = {"--router=switch", "--router-noise=learned", "--accumulation-steps=2"};
  train(whole, changes);
  changes.push_back("--stop-after=4");
  train(parts, changes);
  resume(parts, {"--router=switch"});
  check_same_run(parts, whole);
  CHECK_THAT(
      error_of("moe-train", {"--resume", "--out", parts.string(), "--router=dense"}, 2),
      ContainsSubstring("--router"));
}

TEST_CASE("A run goes on without the texts that it has as tokens", "[programs]") {
  const TemporaryFolder folder;
  const auto text = folder.write("texts/text.txt", std::string(3000, 'a') + "\n\nb\n");
  const auto held_out = folder.write("texts/held_out.txt", std::string(300, 'a') + "\n");
  const auto out = folder.path() / "run";
  train(
      out,
      {"--data=a=" + text,
       "--val-data=a=" + held_out,
       "--val-data",
       text_source("en"),
       "--val-data",
       text_source("de"),
       "--stop-after=4"});
  fs::remove_all(folder.path() / "texts");
  resume(out);
  CHECK(last_step(out) == 10);
}

TEST_CASE("What can be said in two ways is computed alike after a resume", "[programs]") {
  const auto changes = GENERATE(
      Arguments{"--router=deepseek-v2", "--router-groups=2", "--router-groups-kept=1"},
      Arguments{"--router=deepseek-v2", "--router-groups=1", "--router-groups-kept=1"},
      Arguments{"--router-score=softmax", "--router-weighting=softmax"});
  CAPTURE(changes);
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole";
  const auto parts = folder.path() / "parts";
  train(whole, changes);
  auto first = changes;
  first.push_back("--stop-after=4");
  train(parts, first);
  resume(parts);
  check_same_run(parts, whole);
}

TEST_CASE(
    "A run that was stopped and resumed twice equals an uninterrupted one", "[programs]") {
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole";
  const auto parts = folder.path() / "parts";
  const Arguments changes = {"--tokenizer=bpe:280", "--accumulation-steps=2"};
  train(whole, changes);
  auto first = changes;
  first.push_back("--stop-after=3");
  CHECK_THAT(train(parts, first).err, ContainsSubstring("stopped: saved step 3"));
  CHECK(last_step(parts) == 3);
  resume(parts, {"--stop-after=7"});
  CHECK(last_step(parts) == 7);
  // The texts are not needed to go on, and a recorded value may be repeated.
  resume(parts, {"--lr=0.003", "--log-every=1", "--recompute"});
  check_same_run(parts, whole);
  CHECK(temporaries_in(parts).empty());

  const auto config = read_bytes(parts / "config.toml");
  const auto error =
      error_of("moe-train", {"--resume", "--out", parts.string(), "--lr=0.1"}, 2);
  CHECK_THAT(error, ContainsSubstring("--lr"));
  CHECK_THAT(error, ContainsSubstring("0.003"));
  CHECK(read_bytes(parts / "config.toml") == config);

  // Finished is finished, until there are more steps.
  CHECK_THAT(resume(parts).err, ContainsSubstring("already at step 10; nothing to do"));
  check_same_run(parts, whole);
  CHECK_THAT(
      error_of("moe-train", {"--resume", "--out", parts.string(), "--steps=4"}, 1),
      ContainsSubstring("steps: 4 is less than the 10 that the run has done"));
  CHECK(read_bytes(parts / "config.toml").find("\nsteps = 10\n") != std::string::npos);
  resume(parts, {"--steps=12"});
  CHECK(last_step(parts) == 12);
  CHECK(metrics_of(parts).size() == 12);
  CHECK_THAT(read_bytes(parts / "config.toml"), ContainsSubstring("\nsteps = 12\n"));
}

TEST_CASE("A signal finishes the step and saves", "[programs]") {
  const auto [signal, exit_code] = GENERATE(std::pair{SIGTERM, 143}, std::pair{SIGINT, 130});
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  const Arguments changes = {"--steps=100000", "--eval-every=0", "--checkpoint-every=0"};
  RunningProgram program(command("moe-train", training_flags(out, changes)));
  wait_for_steps(program, out, 3);
  ::usleep(std::random_device()() % 20000);
  program.send(signal);
  const auto result = program.wait();
  INFO(result.err);
  CHECK(result.exit_code == exit_code);
  const auto step = last_step(out);
  REQUIRE(step >= 3);
  CHECK(metrics_of(out).size() == static_cast<size_t>(step));
  CHECK_THAT(result.err, ContainsSubstring("stopped: saved step " + std::to_string(step)));

  const auto stop = "--stop-after=" + std::to_string(step + 2);
  resume(out, {stop});
  auto uninterrupted = changes;
  uninterrupted.push_back(stop);
  train(folder.path() / "whole", uninterrupted);
  CHECK(repeatable_metrics(out) == repeatable_metrics(folder.path() / "whole"));
  const bool same = read_bytes(out / "last" / "training_state.safetensors") ==
                    read_bytes(folder.path() / "whole" / "last" / "training_state.safetensors");
  CHECK(same);
}

TEST_CASE("A second signal ends the program at once", "[programs]") {
  const TemporaryFolder folder;
  // A step of some seconds.
  RunningProgram program(command(
      "moe-train",
      training_flags(
          folder.path() / "run",
          {"--batch-size=512", "--sequence-length=64", "--num-layers=16"})));
  REQUIRE(program.wait_for_error_text("model: "));
  program.send(SIGTERM);
  ::usleep(100000);
  REQUIRE(program.running());
  program.send(SIGTERM);
  CHECK(program.wait().signal == SIGTERM);
  CHECK(last_step(folder.path() / "run") == -1);
}

TEST_CASE("A run that was killed goes on from its last checkpoint", "[programs]") {
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole";
  const auto killed = folder.path() / "killed";
  const Arguments changes = {"--steps=40", "--checkpoint-every=1", "--eval-every=7"};
  train(whole, changes);
  std::mt19937 random(std::random_device{}());
  Arguments flags = training_flags(killed, changes);
  int64_t steps = 0;
  for (int i = 0; i < 5; ++i) {
    RunningProgram program(command("moe-train", flags));
    steps += 2 + static_cast<int64_t>(random() % 5);
    CAPTURE(i, steps);
    if (i % 2 == 0) {
      wait_for_save(program, killed, steps);
    } else {
      wait_for_steps(program, killed, steps);
    }
    ::usleep(random() % 3000);
    program.send(SIGKILL);
    const auto result = program.wait();
    INFO(result.err);
    CHECK(result.signal == SIGKILL);
    // What `last` names is always whole.
    REQUIRE(last_step(killed) >= 1);
    steps = last_step(killed);
    flags = {"--resume", "--out", killed.string()};
  }
  const auto result = resume(killed);
  CHECK_THAT(result.err, ContainsSubstring("resuming after step " + std::to_string(steps)));
  CHECK(result.err.find("warning") == std::string::npos);
  check_same_run(killed, whole);
  CHECK(temporaries_in(killed).empty());
}

TEST_CASE("A run that was killed before its first checkpoint begins again", "[programs]") {
  const TemporaryFolder folder;
  const auto whole = folder.path() / "whole";
  const auto killed = folder.path() / "killed";
  const Arguments changes = {"--steps=40", "--checkpoint-every=0", "--eval-every=7"};
  train(whole, changes);
  RunningProgram program(command("moe-train", training_flags(killed, changes)));
  wait_for_steps(program, killed, 3);
  program.send(SIGKILL);
  CHECK(program.wait().signal == SIGKILL);
  REQUIRE(last_step(killed) == -1);
  const auto result = resume(killed);
  CHECK_THAT(result.err, ContainsSubstring("no checkpoint yet: training from the beginning"));
  check_same_run(killed, whole);
}

TEST_CASE("What a killed save leaves behind is removed at the next start", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out, {"--stop-after=2"});
  folder.write("run/checkpoints/.tmp-step-00000003-17/model.safetensors", "cut of");
  folder.write("run/.tmp-config.toml-17", "cut of");
  REQUIRE(temporaries_in(out).size() == 2);
  resume(out, {"--stop-after=3"});
  CHECK(temporaries_in(out).empty());
}

TEST_CASE("A run begins anew with --overwrite, with the text as it is now", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  const auto text = folder.write("text.txt", std::string(600, 'a') + "\n");
  const auto flags = [&](const char* last) {
    return Arguments{
        "--out=" + out.string(),
        "--data=" + text,
        "--tokenizer=bytes",
        "--model-dim=32",
        "--num-layers=1",
        "--expert-dim=32",
        "--steps=2",
        "--batch-size=2",
        "--sequence-length=16",
        "--threads=1",
        last};
  };
  REQUIRE(run("moe-train", flags("--seed=0")).exit_code == 0);
  const auto config = read_bytes(out / "config.toml");
  const auto before = metrics_of(out);

  const auto error = error_of("moe-train", flags("--seed=1"), 2);
  CHECK_THAT(error, ContainsSubstring(out.string()));
  CHECK_THAT(error, ContainsSubstring("--resume"));
  CHECK_THAT(error, ContainsSubstring("--overwrite"));
  CHECK(read_bytes(out / "config.toml") == config);

  // The old run is kept until the new one can begin.
  error_of("moe-train", {"--overwrite", "--out", out.string(), "--data=missing.txt"}, 1);
  CHECK(read_bytes(out / "config.toml") == config);
  CHECK(last_step(out) == 2);

  folder.write("text.txt", std::string(600, 'b') + "\n");
  folder.write("run/notes.txt", "mine");
  REQUIRE(run("moe-train", flags("--overwrite")).exit_code == 0);
  const auto after = metrics_of(out);
  REQUIRE(after.size() == 2);
  CHECK(after[0]["loss"] != before[0]["loss"]);
  CHECK(read_bytes(out / "notes.txt") == "mine");
}
