#include "tests/apps/programs.h"

using namespace moe;
using namespace moe::testing;

TEST_CASE("moe-prepare makes a corpus that moe-train reads", "[programs]") {
  const TemporaryFolder folder;
  for (int i = 0; i < 40; ++i) {
    std::string page = "<html><head><title>t</title></head><body><p>";
    for (int j = 0; j < 40; ++j) {
      page += "word" + std::to_string(i * j) + " ";
    }
    folder.write("pages/" + std::to_string(i) + ".html", page + "</p></body></html>");
  }
  const auto corpus = (folder.path() / "corpus").string();
  const auto result =
      run("moe-prepare",
          {"--data",
           "en=" + (folder.path() / "pages").string(),
           "--out",
           corpus,
           "--note",
           "package=1.0"});
  CHECK(result.exit_code == 0);
  CHECK_THAT(result.out, ContainsSubstring("held out") && ContainsSubstring("\nen "));
  CHECK(names_in(corpus) == std::vector<std::string>{"en", "en-heldout", "manifest.json"});
  const auto manifest = nlohmann::json::parse(folder.read("corpus/manifest.json"));
  CHECK(manifest["notes"]["package"] == "1.0");
  train(folder.path() / "run", {"--data", "pages=" + corpus + "/en"});
}

TEST_CASE("moe-prepare says what is wrong in one line", "[programs]") {
  const TemporaryFolder folder;
  const auto out = (folder.path() / "corpus").string();
  const auto missing = (folder.path() / "missing").string();
  const auto text = folder.write("a.txt", "some text");
  CHECK_THAT(error_of("moe-prepare", {"--demo"}, 2), ContainsSubstring("--out"));
  CHECK_THAT(error_of("moe-prepare", {"--out", out}, 2), ContainsSubstring("--data"));
  CHECK_THAT(
      error_of("moe-prepare", {"--out", out, "--data", text, "--note", "x"}, 2),
      ContainsSubstring("--note: 'x' is not KEY=VALUE"));
  CHECK_THAT(
      error_of("moe-prepare", {"--out", out, "--data", missing}, 1),
      ContainsSubstring(missing + ": no such file or folder"));
  CHECK_THAT(
      error_of("moe-prepare", {"--out", out, "--demo", "--handbook", missing}, 1),
      ContainsSubstring("debian-handbook"));
  CHECK_FALSE(std::filesystem::exists(out));
}
