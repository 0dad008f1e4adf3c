#include "moe/files/atomic_folder.h"

#include <algorithm>
#include <vector>

#include "moe/error.h"
#include "moe/files/atomic_file.h"
#include "tests/support/catch.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
namespace fs = std::filesystem;

namespace {

std::vector<std::string> entries(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

} // namespace

TEST_CASE("AtomicFile appears with commit only", "[files]") {
  const TemporaryFolder folder;
  folder.write("x", "old");
  {
    AtomicFile file(folder.path() / "x");
    file.write("lost");
  }
  CHECK(folder.read("x") == "old");
  AtomicFile file(folder.path() / "x");
  file.write("ne");
  file.write("w");
  CHECK(folder.read("x") == "old");
  file.commit();
  CHECK(folder.read("x") == "new");
  CHECK(entries(folder.path()) == std::vector<std::string>{"x"});
}

TEST_CASE("AtomicFile names the file that cannot be written", "[files]") {
  const TemporaryFolder folder;
  const auto path = folder.path() / "none" / "x";
  CHECK_THROWS_WITH(
      AtomicFile(path), ContainsSubstring(path.string() + ": cannot write: No such file"));
  const FileSizeLimit limit(2);
  CHECK_THROWS_WITH(
      write_file_atomically(folder.path() / "x", "long"), ContainsSubstring("File too large"));
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("read_text_file reads whole files up to a size", "[files]") {
  const TemporaryFolder folder;
  const auto path = folder.write("x", std::string("a\0b\n", 4));
  CHECK(read_text_file(path) == std::string("a\0b\n", 4));
  CHECK(read_text_file(folder.write("empty", "")).empty());
  CHECK_THROWS_WITH(read_text_file(path, /*max_bytes=*/3), ContainsSubstring("at most 3"));
}

TEST_CASE("replace_link puts a new link in place of an old one", "[files]") {
  const TemporaryFolder folder;
  const auto link = folder.path() / "last";
  replace_link(link, "a");
  replace_link(link, "b");
  CHECK(fs::read_symlink(link) == "b");
  CHECK(entries(folder.path()) == std::vector<std::string>{"last"});
  fs::create_directory(folder.path() / "real");
  CHECK_THROWS_WITH(replace_link(folder.path() / "real", "b"), ContainsSubstring("real"));
  CHECK(entries(folder.path()).size() == 2);
}

TEST_CASE("AtomicFolder appears with commit only", "[files]") {
  const TemporaryFolder folder;
  const auto target = folder.path() / "deep" / "model";
  {
    const AtomicFolder lost(target);
    write_file_atomically(lost.path() / "x", "1");
  }
  CHECK(fs::is_empty(target.parent_path()));
  AtomicFolder written(target.string() + "/");
  write_file_atomically(written.path() / "x", "1");
  fs::create_directory(written.path() / "sub");
  write_file_atomically(written.path() / "sub" / "y", "2");
  CHECK_FALSE(fs::exists(target));
  written.commit();
  CHECK(folder.read("deep/model/x") == "1");
  CHECK(folder.read("deep/model/sub/y") == "2");
  CHECK(entries(target.parent_path()) == std::vector<std::string>{"model"});
}

TEST_CASE("AtomicFolder replaces a folder that is there", "[files]") {
  const TemporaryFolder folder;
  folder.write("model/old", "1");
  AtomicFolder written(folder.path() / "model");
  write_file_atomically(written.path() / "new", "2");
  written.commit();
  CHECK(entries(folder.path()) == std::vector<std::string>{"model"});
  CHECK(entries(folder.path() / "model") == std::vector<std::string>{"new"});
}

TEST_CASE("A save that was killed leaves only what remove_temporaries removes", "[files]") {
  const TemporaryFolder folder;
  folder.write("model/x", "kept");
  folder.write(".tmp-model-4711/x", "half");
  folder.write(".tmp-metrics-4711", "half");
  remove_temporaries(folder.path());
  CHECK(entries(folder.path()) == std::vector<std::string>{"model"});
  remove_temporaries(folder.path() / "none");
}
