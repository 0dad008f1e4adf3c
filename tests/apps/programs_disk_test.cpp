#include <sys/mount.h>
#include <unistd.h>

#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

namespace {

namespace fs = std::filesystem;

/// A small file system in memory, where mounting one is allowed.
class SmallDisk {
 public:
  SmallDisk(fs::path path, const std::string& size) : path_(std::move(path)) {
    fs::create_directories(path_);
    mounted_ = ::mount("moe-test", path_.c_str(), "tmpfs", 0, ("size=" + size).c_str()) == 0;
  }
  ~SmallDisk() {
    if (mounted_) {
      ::umount2(path_.c_str(), MNT_DETACH);
    }
  }
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  bool mounted() const {
    return mounted_;
  }

 private:
  fs::path path_;
  bool mounted_ = false;
};

void check_evaluates(const fs::path& out, const char* checkpoint) {
  const auto result =
      run("moe-evaluate",
          {out.string(),
           checkpoint,
           "--data",
           text_source("en"),
           "--threads=1",
           "--max-tokens=200"});
  INFO(result.err);
  CHECK(result.exit_code == 0);
  CHECK(result.err.empty());
}

} // namespace

TEST_CASE("A checkpoint that cannot be written leaves the one before", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  train(out, {"--stop-after=4"});
  const auto error = last_error_line(
      "moe-train",
      run("moe-train",
          {"--resume", "--out", out.string()},
          {.largest_file = fs::file_size(out / "last" / "model.safetensors") / 2})
          .err);
  CHECK_THAT(error, ContainsSubstring("model.safetensors"));
  CHECK_THAT(error, ContainsSubstring("File too large"));
  CHECK(last_step(out) == 4);
  CHECK(temporaries_in(out).empty());
  CHECK(names_in(out / "checkpoints") == std::vector<std::string>{"step-00000004"});
  check_evaluates(out, "--checkpoint=last");

  resume(out);
  train(folder.path() / "whole");
  check_same_run(out, folder.path() / "whole");
}

TEST_CASE("A run that cannot begin for want of space leaves no run", "[programs]") {
  const TemporaryFolder folder;
  const auto out = folder.path() / "run";
  const auto result = run("moe-train", training_flags(out), {.largest_file = 1000});
  CHECK(result.exit_code == 1);
  CHECK_THAT(last_error_line("moe-train", result.err), ContainsSubstring(".tokens"));
  CHECK_FALSE(fs::exists(out));
  train(out, {"--steps=1"});
}

TEST_CASE("A full disk ends a run with one line", "[programs]") {
  const TemporaryFolder folder;
  const auto disk_path = folder.path() / "disk";
  const SmallDisk disk(disk_path, "4m");
  if (!disk.mounted()) {
    WARN("skipped: mounting is not allowed here");
    return;
  }
  // Every checkpoint is kept: the fourth or fifth does not fit.
  const auto out = disk_path / "run";
  const auto result =
      run("moe-train", training_flags(out, {"--checkpoint-every=1", "--eval-every=0"}));
  INFO(result.err);
  CHECK(result.exit_code == 1);
  const auto error = last_error_line("moe-train", result.err);
  CHECK_THAT(error, ContainsSubstring(out.string()));
  CHECK_THAT(error, ContainsSubstring("No space left on device"));
  CHECK(temporaries_in(out).empty());
  const auto step = last_step(out);
  REQUIRE(step >= 1);
  CHECK(names_in(out / "checkpoints").size() == static_cast<size_t>(step));
  check_evaluates(out, "--checkpoint=last");

  // With space again it goes on.
  fs::remove_all(out / "checkpoints" / "step-00000001");
  resume(out, {"--checkpoint-every=0"});
  CHECK(last_step(out) == 10);
}
