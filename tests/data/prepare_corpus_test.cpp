#include "moe/data/prepare_corpus.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "moe/data/sha256.h"
#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;
namespace fs = std::filesystem;

namespace {

/// A sentence that no other number gives, long enough to be kept.
std::string sentence(int i) {
  std::string text = "Sentence number " + std::to_string(i) + " stands here alone";
  for (int j = 0; j < 10; ++j) {
    text += " word" + std::to_string(i * 31 + j);
  }
  return text;
}

std::set<std::string> files_of(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      names.insert(entry.path().lexically_relative(folder).generic_string());
    }
  }
  return names;
}

PrepareOptions options_for(const TemporaryFolder& folder, std::vector<DataSource> sources) {
  PrepareOptions options;
  for (auto& source : sources) {
    options.sources.push_back({source});
  }
  options.out = (folder.path() / "corpus").string();
  return options;
}

std::vector<std::string> texts_in_folder(const std::string& path) {
  std::vector<std::string> texts;
  for_each_document({"x", path}, Split::all, [&](const Document& document) {
    texts.push_back(document.text);
  });
  return texts;
}

} // namespace

TEST_CASE("prepare_corpus makes clean text of pages and files", "[data]") {
  TemporaryFolder folder;
  for (int i = 0; i < 60; ++i) {
    folder.write(
        "raw/pages/" + std::to_string(i) + ".html",
        "<html><head><title>x</title></head><body><nav>n</nav><p>" + sentence(i) +
            "</p><p>&lt;end&gt;</p></body></html>");
  }
  folder.write("raw/copy.html", "<p>" + sentence(3) + "</p><p>&lt;end&gt;</p>");
  folder.write("raw/short.html", "<p>Too short</p>");
  folder.write("raw/style.css", sentence(100));
  folder.write("raw/image.png", std::string("\x89PNG\0\xFF", 6) + sentence(101));
  folder.write("raw/notes.txt", sentence(102) + "\r\n");
  const auto raw = (folder.path() / "raw").string();
  auto options = options_for(folder, {{"en", raw}});
  options.notes = {{"package", "1.0"}};
  const auto manifest = prepare_corpus(options);

  REQUIRE(manifest.domains.size() == 1);
  const auto& domain = manifest.domains[0];
  CHECK(domain.training.documents + domain.held_out.documents == 61);
  CHECK(domain.held_out.documents >= 1);
  CHECK(domain.duplicate_documents == 1);
  CHECK(domain.short_documents == 1);
  REQUIRE(domain.skipped_files.size() == 2);
  CHECK(domain.skipped_files[0].path == "image.png");
  CHECK(domain.skipped_files[0].reason == "part of a page");
  CHECK(domain.skipped_files[1].path == "style.css");

  const auto files = files_of(folder.path() / "corpus");
  CHECK(files.count("manifest.json") == 1);
  CHECK(files.size() == 62);
  CHECK(files.count("en/notes.txt") + files.count("en-heldout/notes.txt") == 1);
  const auto part = is_held_out("pages/7.html", 0) ? "en-heldout" : "en";
  CHECK(
      folder.read(std::string("corpus/") + part + "/pages/7.txt") ==
      sentence(7) + "\n\n<end>\n");
  for (const auto& [name, file] : manifest.files) {
    CAPTURE(name);
    const auto content = folder.read("corpus/" + name);
    CHECK(file.sha256 == to_hex(sha256(content)));
    CHECK(file.bytes == static_cast<int64_t>(content.size()));
    CHECK(files.count(name) == 1);
  }
  const auto json = nlohmann::json::parse(folder.read("corpus/manifest.json"));
  CHECK(json["notes"]["package"] == "1.0");
  CHECK(json["domains"]["en"]["training"]["documents"] == domain.training.documents);
  CHECK(json["files"].size() == 61);
}

TEST_CASE("prepare_corpus keeps training and held-out documents apart", "[data]") {
  TemporaryFolder folder;
  std::string blocks, lines;
  for (int i = 0; i < 200; ++i) {
    blocks += sentence(i) + "\n\n";
    lines += nlohmann::json{{"text", sentence(1000 + i)}}.dump() + "\n";
  }
  const auto book = folder.write("book.txt", blocks);
  const auto jsonl = folder.write("data.jsonl", lines + lines);
  const auto manifest = prepare_corpus(options_for(folder, {{"a", book}, {"b", jsonl}}));
  for (const std::string name : {"a", "b"}) {
    const auto training = texts_in_folder((folder.path() / "corpus" / name).string());
    const auto held_out =
        texts_in_folder((folder.path() / "corpus" / (name + "-heldout")).string());
    CHECK(training.size() + held_out.size() == 200);
    CHECK(held_out.size() >= 1);
    CHECK(held_out.size() <= 25);
    for (const auto& text : held_out) {
      CHECK(std::find(training.begin(), training.end(), text) == training.end());
    }
  }
  CHECK(manifest.domains[1].duplicate_documents == 200);
  CHECK(
      files_of(folder.path() / "corpus") == std::set<std::string>{
                                                "a/book.jsonl",
                                                "a-heldout/book.jsonl",
                                                "b/data.jsonl",
                                                "b-heldout/data.jsonl",
                                                "manifest.json"});
  const auto first =
      nlohmann::json::parse(folder.read("corpus/a/book.jsonl")
                                .substr(0, folder.read("corpus/a/book.jsonl").find('\n')));
  CHECK(first["source"] == "book.txt:0");
}

TEST_CASE("prepare_corpus holds out the end of a single document", "[data]") {
  TemporaryFolder folder;
  const auto page = folder.write("page.html", "<p>" + std::string(1000, 'x') + "</p>");
  prepare_corpus(options_for(folder, {{"en", page}}));
  CHECK(folder.read("corpus/en/page.txt") == std::string(951, 'x'));
  CHECK(folder.read("corpus/en-heldout/page.txt") == std::string(49, 'x') + "\n");
}

TEST_CASE("prepare_corpus leaves out what another domain has, too", "[data]") {
  TemporaryFolder folder;
  for (int i = 0; i < 3; ++i) {
    const auto name = std::to_string(i) + ".html";
    folder.write("en/" + name, "<p>" + sentence(i) + "</p>");
    folder.write(
        "de/" + name, "<p>" + sentence(i) + "</p><p>Satz: " + sentence(50 + i) + "</p>");
  }
  auto options = options_for(
      folder,
      {{"de", (folder.path() / "de").string()}, {"en", (folder.path() / "en").string()}});
  options.distinct_from = "en";
  const auto manifest = prepare_corpus(options);
  CHECK(
      manifest.domains[0].known_bytes ==
      static_cast<int64_t>(sentence(0).size() + sentence(1).size() + sentence(2).size() + 6));
  CHECK(folder.read("corpus/de/0.txt") == "Satz: " + sentence(50) + "\n");
  options.out += "2";
  options.distinct_from = "fr";
  CHECK_THROWS_WITH(prepare_corpus(options), ContainsSubstring("no data is named 'fr'"));
}

TEST_CASE("prepare_corpus says why nothing is left of a domain", "[data]") {
  TemporaryFolder folder;
  for (const char* place : {"en/", "copy/"}) {
    folder.write(place + std::string("0.html"), "<p>" + sentence(0) + sentence(1) + "</p>");
    folder.write(place + std::string("1.html"), "<p>" + sentence(2) + sentence(3) + "</p>");
  }
  folder.write("copy/2.html", "<p>Brief.</p>");
  const auto options = options_for(
      folder,
      {{"en", (folder.path() / "en").string()}, {"copy", (folder.path() / "copy").string()}});
  CHECK_THROWS_WITH(
      prepare_corpus(options),
      ContainsSubstring("no text found for the domain 'copy'; left out: 2 that were there "
                        "before, in this domain or another, 1 that are too short"));
}

TEST_CASE("prepare_corpus reads only the named endings, without tests and tables", "[data]") {
  TemporaryFolder folder;
  folder.write("lib/a.py", "def a():\n" + sentence(1));
  folder.write("lib/test/b.py", sentence(2));
  folder.write("lib/test_c.py", sentence(3));
  folder.write("lib/table.py", "x = {\n 'a': 1,\n 'b': 2,\n 'c': 3,\n}  # " + sentence(4));
  folder.write(
      "lib/latin1.py",
      "# gr\xFC\xDF"
      "e " +
          sentence(5));
  folder.write("lib/d.c", sentence(6));
  auto options = options_for(folder, {});
  options.sources = {{{"code", (folder.path() / "lib").string()}, {".py"}, true, true}};
  const auto manifest = prepare_corpus(options);
  CHECK(manifest.domains[0].training.documents == 1);
  std::set<std::string> skipped;
  for (const auto& file : manifest.domains[0].skipped_files) {
    skipped.insert(file.path + ": " + file.reason);
  }
  CHECK(
      skipped == std::set<std::string>{
                     "latin1.py: not UTF-8 text",
                     "table.py: data table",
                     "test/b.py: test",
                     "test_c.py: test"});
}

TEST_CASE("prepare_corpus leaves out sentences with too much ASCII when told to", "[data]") {
  TemporaryFolder folder;
  std::string sentence_ja;
  for (int i = 0; i < 60; ++i) {
    sentence_ja += "あ";
  }
  const auto page =
      folder.write("page.html", "<p>" + sentence_ja + "。apt install を使う。</p><p>$ apt</p>");
  auto options = options_for(folder, {{"ja", page}});
  options.sources[0].max_ascii_share = 0.05;
  prepare_corpus(options);
  CHECK(
      folder.read("corpus/ja/page.txt") + folder.read("corpus/ja-heldout/page.txt") ==
      sentence_ja + "。\n");
}

TEST_CASE("prepare_corpus gives the same bytes every time", "[data]") {
  TemporaryFolder folder;
  for (int i = 0; i < 30; ++i) {
    folder.write("raw/" + std::to_string(i) + ".txt", sentence(i));
  }
  auto options = options_for(folder, {{"en", (folder.path() / "raw").string()}});
  prepare_corpus(options);
  const auto first = folder.read("corpus/manifest.json");
  const auto files = files_of(folder.path() / "corpus");
  options.overwrite = true;
  prepare_corpus(options);
  CHECK(folder.read("corpus/manifest.json") == first);
  CHECK(files_of(folder.path() / "corpus") == files);
}

TEST_CASE("prepare_corpus replaces only a corpus, and only when told to", "[data]") {
  TemporaryFolder folder;
  const auto raw = folder.write("raw/a.txt", sentence(1));
  auto options = options_for(folder, {{"en", (folder.path() / "raw").string()}});
  folder.write("corpus/precious.txt", "precious");
  options.overwrite = true;
  CHECK_THROWS_WITH(prepare_corpus(options), ContainsSubstring("not a corpus"));
  folder.write("corpus/manifest.json", "{\"format\": \"other\"}");
  CHECK_THROWS_WITH(prepare_corpus(options), ContainsSubstring("not a corpus"));
  CHECK(folder.read("corpus/precious.txt") == "precious");
  fs::remove_all(folder.path() / "corpus");
  prepare_corpus(options);
  options.overwrite = false;
  CHECK_THROWS_WITH(prepare_corpus(options), ContainsSubstring("--overwrite replaces it"));
}

TEST_CASE("prepare_corpus leaves nothing behind when it fails", "[data]") {
  TemporaryFolder folder;
  folder.write("raw/a.txt", sentence(1));
  const auto bad = folder.write("raw/b.txt", sentence(2) + "\xFF");
  const auto options = options_for(folder, {{"en", (folder.path() / "raw").string()}});
  CHECK_THROWS_WITH(
      prepare_corpus(options),
      ContainsSubstring(bad + ": not UTF-8 at byte " + std::to_string(sentence(2).size())));
  CHECK(files_of(folder.path()).size() == 2);
  CHECK_FALSE(fs::exists(folder.path() / "corpus"));
  const auto empty = folder.write("empty.html", "<p></p>");
  CHECK_THROWS_WITH(
      prepare_corpus(options_for(folder, {{"en", empty}})),
      ContainsSubstring(empty + ": no text found for the domain 'en'"));
  CHECK_THROWS_WITH(
      prepare_corpus(options_for(folder, {{"en", bad}, {"en-heldout", bad}})),
      ContainsSubstring("the domain 'en'"));
  CHECK_THROWS_WITH(
      prepare_corpus(options_for(folder, {})), ContainsSubstring("no text is given"));
}

TEST_CASE("demo_sources names the package that is missing", "[data]") {
  TemporaryFolder folder;
  const auto here = folder.path().string();
  CHECK_THROWS_WITH(
      demo_sources(here + "/missing", here), ContainsSubstring("debian-handbook"));
  CHECK_THROWS_WITH(
      demo_sources(here, here + "/missing"), ContainsSubstring("libpython3-stdlib"));
  const auto sources = demo_sources(here, here);
  REQUIRE(sources.size() == 6);
  CHECK(sources[4].source == DataSource{"ja", here + "/ja-JP"});
  CHECK(sources[4].max_ascii_share == 0.05);
  CHECK(sources[5].source.domain == "code");
}
