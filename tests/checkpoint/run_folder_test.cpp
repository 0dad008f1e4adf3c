#include "moe/checkpoint/run_folder.h"

#include "moe/error.h"
#include "moe/files/atomic_folder.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/model_files.h"
#include "tests/support/safetensors_text.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
namespace fs = std::filesystem;

namespace {

struct Run {
  Run() {
    run.create();
  }

  void save(int64_t step) const {
    AtomicFolder checkpoint(run.checkpoint(step));
    write_zero_model(checkpoint.path(), tiny_model_options());
    write_file_atomically(checkpoint.path() / "training_state.json", "{}");
    write_file_atomically(
        checkpoint.path() / "training_state.safetensors", safetensors_bytes("{}"));
    checkpoint.commit();
    run.set_last(step);
  }

  void damage(int64_t step) const {
    fs::resize_file(run.checkpoint(step) / "model.safetensors", 100);
  }

  TemporaryFolder folder;
  RunFolder run{folder.path() / "run"};
};

} // namespace

TEST_CASE(
    "RunFolder names checkpoints by step and links the last and the best", "[checkpoint]") {
  const Run test;
  CHECK(test.run.steps().empty());
  CHECK_FALSE(test.run.last().has_value());
  test.save(50);
  test.save(100);
  test.run.set_best(50);
  CHECK(test.run.checkpoint(100).filename() == "step-00000100");
  CHECK(test.run.steps() == std::vector<int64_t>{50, 100});
  CHECK(test.run.last() == 100);
  CHECK(test.run.best() == 50);
  CHECK(fs::read_symlink(test.run.root() / "last") == "checkpoints/step-00000100");
  CHECK(fs::exists(test.run.root() / "best" / "config.json"));
  CHECK_THROWS_WITH(test.run.set_last(7), ContainsSubstring("no such checkpoint"));
  CHECK(test.run.checkpoint(1'000'000'000).filename() == "step-1000000000");
}

TEST_CASE("RunFolder keeps the newest checkpoints, the last and the best", "[checkpoint]") {
  const Run test;
  for (const int64_t step : {10, 20, 30, 40}) {
    test.save(step);
  }
  test.run.set_best(10);
  test.run.prune(2);
  CHECK(test.run.steps() == std::vector<int64_t>{10, 30, 40});
  test.run.set_last(30);
  test.run.prune(0);
  CHECK(test.run.steps() == std::vector<int64_t>{10, 30});
}

TEST_CASE("RunFolder ignores and removes what a killed save left", "[checkpoint]") {
  const Run test;
  test.save(10);
  test.folder.write("run/checkpoints/.tmp-step-00000020-99/model.safetensors", "half");
  test.folder.write("run/checkpoints/step-20/x", "a foreign name");
  CHECK(test.run.steps() == std::vector<int64_t>{10});
  CHECK(test.run.find_resumable().folder == test.run.checkpoint(10));
  test.run.create();
  CHECK_FALSE(fs::exists(test.run.root() / "checkpoints" / ".tmp-step-00000020-99"));
  CHECK(test.run.steps() == std::vector<int64_t>{10});
}

TEST_CASE(
    "A damaged last checkpoint is replaced by an older one, with a warning", "[checkpoint]") {
  const Run test;
  test.save(5);
  test.save(10);
  test.save(20);
  CHECK(test.run.find_resumable().warnings.empty());
  SECTION("cut off") {
    test.damage(20);
  }
  SECTION("without the training state") {
    fs::remove(test.run.checkpoint(20) / "training_state.json");
  }
  SECTION("gone") {
    fs::remove_all(test.run.checkpoint(20));
  }
  const auto found = test.run.find_resumable();
  CHECK(found.folder == test.run.checkpoint(10));
  REQUIRE(found.warnings.size() == 1);
  CHECK_THAT(found.warnings[0], ContainsSubstring("step-00000020"));
  test.damage(10);
  test.damage(5);
  CHECK_THROWS_WITH(
      test.run.find_resumable(),
      ContainsSubstring("no checkpoint can be read") && ContainsSubstring("step-00000010"));
}

TEST_CASE("A full disk while saving leaves the last checkpoint readable", "[checkpoint]") {
  const Run test;
  test.save(10);
  {
    const FileSizeLimit limit(2000);
    CHECK_THROWS_WITH(test.save(20), ContainsSubstring("cannot write"));
  }
  CHECK(test.run.steps() == std::vector<int64_t>{10});
  CHECK(test.run.last() == 10);
  CHECK(test.run.find_resumable().warnings.empty());
  CHECK(
      std::distance(fs::directory_iterator(test.run.root() / "checkpoints"), {}) ==
      1); // nothing half-written
}

TEST_CASE("find_model_folder understands runs, checkpoints and model folders", "[checkpoint]") {
  const Run test;
  const auto root = test.run.root();
  CHECK_THROWS_WITH(find_model_folder(root), ContainsSubstring("no checkpoint yet"));
  test.save(10);
  test.save(20);
  CHECK(find_model_folder(root).folder == test.run.checkpoint(20));
  test.run.set_best(10);
  CHECK(find_model_folder(root).folder == test.run.checkpoint(10));
  CHECK(find_model_folder(root, "last").folder == test.run.checkpoint(20));
  CHECK(find_model_folder(root, "20").folder == test.run.checkpoint(20));
  CHECK(find_model_folder(root / "best").folder == root / "best");
  CHECK(find_model_folder(test.run.checkpoint(20)).folder == test.run.checkpoint(20));
  CHECK_THROWS_WITH(find_model_folder(root, "newest"), ContainsSubstring("'newest'"));
  CHECK_THROWS_WITH(find_model_folder(root / "best", "last"), ContainsSubstring("not a run"));
  test.damage(10);
  CHECK(find_model_folder(root).folder == test.run.checkpoint(20));
  CHECK(find_model_folder(root).warnings.size() == 1);
  CHECK_THROWS_WITH(find_model_folder(root, "best"), ContainsSubstring("step-00000010"));
}

TEST_CASE("find_model_folder says what was found instead", "[checkpoint]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(
      find_model_folder(folder.path() / "x"), ContainsSubstring("no such folder"));
  CHECK_THROWS_WITH(find_model_folder(folder.path()), ContainsSubstring("neither config.json"));
  CHECK_THROWS_WITH(
      find_model_folder(folder.write("file", "x")), ContainsSubstring("is a file"));
}

TEST_CASE("RunFolder::clear removes the run and nothing else", "[checkpoint]") {
  const Run test;
  test.save(10);
  test.run.set_best(10);
  test.folder.write("run/config.toml", "");
  test.folder.write("run/events.out.tfevents.1", "");
  test.folder.write("run/notes.txt", "mine");
  CHECK(test.run.exists());
  test.run.clear();
  CHECK_FALSE(test.run.exists());
  CHECK(std::distance(fs::directory_iterator(test.run.root()), {}) == 1);
  CHECK(test.folder.read("run/notes.txt") == "mine");
}
