#include "moe/data/corpus.h"

#include <algorithm>
#include <filesystem>
#include <set>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

namespace {

std::vector<Document> documents_of(const std::string& path, Split split = Split::all) {
  std::vector<Document> documents;
  for_each_document(
      {"en", path}, split, [&](const Document& document) { documents.push_back(document); });
  return documents;
}

std::vector<std::string> texts_of(const std::string& path, Split split = Split::all) {
  std::vector<std::string> texts;
  for (const auto& document : documents_of(path, split)) {
    texts.push_back(document.text);
  }
  return texts;
}

using Texts = std::vector<std::string>;

} // namespace

TEST_CASE("parse_data_source reads NAME=PATH and PATH", "[data]") {
  CHECK(parse_data_source("en=corpus/en") == DataSource{"en", "corpus/en"});
  CHECK(parse_data_source("corpus/en") == DataSource{"text", "corpus/en"});
  CHECK(parse_data_source("en=a=b.txt") == DataSource{"en", "a=b.txt"});
  CHECK(parse_data_source("./a=b.txt") == DataSource{"text", "./a=b.txt"});
  CHECK_THROWS_WITH(parse_data_source("en="), ContainsSubstring("'en=' has no path"));
  CHECK_THROWS_WITH(parse_data_source(""), ContainsSubstring("expected PATH or NAME=PATH"));
}

TEST_CASE("domains_of lists each domain once, in order; sources_of picks one", "[data]") {
  const std::vector<DataSource> sources{{"en", "a"}, {"de", "b"}, {"en", "c"}};
  CHECK(domains_of(sources) == Texts{"en", "de"});
  CHECK(sources_of(sources, "en") == std::vector<DataSource>{{"en", "a"}, {"en", "c"}});
  CHECK(sources_of(sources, "fr").empty());
}

TEST_CASE("A file is cut into documents at blank lines", "[data]") {
  TemporaryFolder folder;
  const auto path = folder.write(
      "book.txt",
      "\n\none\ntwo  \n\n \t\r\nthree\r\nfour\r\n\r\n\xC3\xBC"
      "five");
  CHECK(
      texts_of(path) == Texts{
                            "one\ntwo  ",
                            "three\r\nfour",
                            "\xC3\xBC"
                            "five"});
  const auto documents = documents_of(path);
  CHECK(documents[1].path == "book.txt");
  CHECK(documents[1].number == 1);
  CHECK(documents[1].domain == "en");
}

TEST_CASE("A byte order mark is no text", "[data]") {
  TemporaryFolder folder;
  CHECK(texts_of(folder.write("a.txt", "\xEF\xBB\xBFone")) == Texts{"one"});
}

TEST_CASE("A folder's files are documents in the order of their names", "[data]") {
  TemporaryFolder folder;
  folder.write("b.txt", "two\n\nparagraphs\n");
  folder.write("a/z.txt", "z");
  folder.write("a.txt", "first");
  folder.write("blank.txt", " \n\t");
  folder.write(".hidden", "hidden");
  folder.write(".git/config", "hidden");
  std::filesystem::create_symlink("b.txt", folder.path() / "link.txt");
  std::filesystem::create_symlink("nothing", folder.path() / "dangling.txt");
  std::filesystem::create_directory_symlink(folder.path(), folder.path() / "loop");
  const auto documents = documents_of(folder.path().string());
  REQUIRE(documents.size() == 4);
  CHECK(documents[0].path == "a.txt");
  CHECK(documents[1].path == "a/z.txt");
  CHECK(documents[2].path == "b.txt");
  CHECK(documents[2].text == "two\n\nparagraphs\n");
  CHECK(documents[3].path == "link.txt");
}

TEST_CASE("The lines of JSONL are documents, also within a folder", "[data]") {
  TemporaryFolder folder;
  const std::string lines =
      "{\"text\": \"one\\n\\ntwo\", \"id\": [1, {}]}\n\n{\"text\":\" \"}\r\n"
      "{\"id\":3,\"text\":\"\\u00fc\\ud83d\\ude00\"}";
  const Texts expected = {"one\n\ntwo", "\xC3\xBC\xF0\x9F\x98\x80"};
  CHECK(texts_of(folder.write("data.jsonl", lines)) == expected);
  const auto documents = documents_of(folder.path().string());
  REQUIRE(documents.size() == 2);
  CHECK(documents[0].number == 0);
  CHECK(documents[1].number == 3);
  CHECK(documents[1].path == "data.jsonl");
}

TEST_CASE("JSONL errors name file and line", "[data]") {
  TemporaryFolder folder;
  const auto error = [&](const std::string& line, const std::string& part) {
    const auto path = folder.write("data.jsonl", "{\"text\":\"one\"}\n" + line + "\n");
    CAPTURE(line);
    CHECK_THROWS_WITH(
        texts_of(path), ContainsSubstring(path + ":2: ") && ContainsSubstring(part));
  };
  error("{\"text\": \"one\"", "not JSON");
  error("{\"text\": \"\\ud800\"}", "not JSON");
  error("nonsense", "not JSON");
  error("{\"txt\": \"one\"}", "found an object without either");
  error("{\"text\": 5}", "string \"text\"");
  error("[\"one\"]", "found array");
  error(std::string(100000, '['), "not JSON");
}

TEST_CASE("Deeply nested JSONL costs no stack", "[data]") {
  TemporaryFolder folder;
  const std::string deep =
      "{\"text\":\"one\",\"x\":" + std::string(200000, '[') + std::string(200000, ']') + "}";
  CHECK(texts_of(folder.write("data.jsonl", deep)) == Texts{"one"});
}

TEST_CASE("Text that is not UTF-8 is named with its byte offset", "[data]") {
  TemporaryFolder folder;
  const auto path = folder.write(
      "latin1.txt",
      "gr\xC3\xBC\xC3\x9F"
      "e\n\ngr\xFC\xDF"
      "e");
  CHECK_THROWS_WITH(texts_of(path), ContainsSubstring(path + ": not UTF-8 at byte 11"));
  const auto lines = folder.write("a.jsonl", "{\"text\":\"\xFF\"}");
  CHECK_THROWS_WITH(texts_of(lines), ContainsSubstring(lines + ": not UTF-8 at byte 9"));
}

TEST_CASE("Missing and empty sources are named", "[data]") {
  TemporaryFolder folder;
  const auto missing = (folder.path() / "missing").string();
  CHECK_THROWS_WITH(texts_of(missing), ContainsSubstring(missing + ": no such file"));
  CHECK_THROWS_WITH(
      check_exist(parse_data_sources({"en=" + missing})),
      ContainsSubstring(missing + ": no such file"));
  CHECK_THROWS_WITH(
      texts_of(folder.path().string()), ContainsSubstring("the folder has no files"));
  const auto blank = folder.write("blank.txt", "\n \n");
  CHECK_THROWS_WITH(texts_of(blank), ContainsSubstring(blank + ": no text found"));
  const auto empty = folder.write("empty.txt", "");
  CHECK_THROWS_WITH(texts_of(empty), ContainsSubstring(empty + ": no text found"));
  CHECK_THROWS_WITH(texts_of(folder.path().string()), ContainsSubstring("no text found"));
}

TEST_CASE("The hash that holds documents out is the stated one", "[data]") {
  std::vector<int64_t> held_out;
  for (int64_t number = 0; number < 100; ++number) {
    if (is_held_out("corpus.txt", number)) {
      held_out.push_back(number);
    }
  }
  // Computed by another program from the description in corpus.h.
  CHECK(held_out == std::vector<int64_t>{2, 23, 40, 59});
}

TEST_CASE("Training and held-out documents are disjoint and complete", "[data]") {
  TemporaryFolder folder;
  const auto count = GENERATE(2, 3, 20, 200, 2000);
  std::string text;
  for (int i = 0; i < count; ++i) {
    text += "document number " + std::to_string(i) + " has some words\n\n";
  }
  const auto path = folder.write("book.txt", text);
  const auto all = texts_of(path);
  const auto training = texts_of(path, Split::training);
  const auto held_out = texts_of(path, Split::held_out);
  REQUIRE(!held_out.empty());
  REQUIRE(!training.empty());
  std::string joined;
  for (const auto& piece : training) {
    CHECK(std::find(held_out.begin(), held_out.end(), piece) == held_out.end());
    joined += piece;
  }
  size_t bytes = joined.size();
  for (const auto& piece : held_out) {
    bytes += piece.size();
  }
  size_t expected = 0;
  for (const auto& piece : all) {
    expected += piece.size();
  }
  CHECK(bytes == expected);
  if (count == 2000) {
    CHECK(held_out.size() > 60);
    CHECK(held_out.size() < 140);
  }
}

TEST_CASE("Adding documents moves none between training and held-out text", "[data]") {
  TemporaryFolder folder;
  std::set<std::string> before;
  for (int i = 0; i < 100; ++i) {
    folder.write("sub/" + std::to_string(i) + ".txt", "text " + std::to_string(i));
  }
  const auto path = folder.path().string();
  for (const auto& text : texts_of(path, Split::held_out)) {
    before.insert(text);
  }
  REQUIRE(before.size() >= 2);
  folder.write("sub/aaa.txt", "new");
  std::set<std::string> after;
  for (const auto& text : texts_of(path, Split::held_out)) {
    after.insert(text);
  }
  after.erase("new");
  CHECK(before == after);
}

TEST_CASE("The last 5 % of a single document are held out", "[data]") {
  TemporaryFolder folder;
  SECTION("after white space") {
    std::string text;
    for (int i = 0; i < 400; ++i) {
      text += "word" + std::to_string(i % 10) + " ";
    }
    const auto path = folder.write("one.txt", text + "end");
    const auto training = texts_of(path, Split::training);
    const auto held_out = texts_of(path, Split::held_out);
    REQUIRE(training.size() == 1);
    REQUIRE(held_out.size() == 1);
    CHECK(training[0] + held_out[0] == text + "end");
    CHECK(training[0].back() == ' ');
    CHECK(held_out[0].size() > 100);
    CHECK(held_out[0].size() < 130);
  }
  SECTION("never within a character") {
    std::string text;
    for (int i = 0; i < 333; ++i) {
      text += "\xE3\x81\x82";
    }
    const auto path = folder.write("one.txt", text);
    const auto held_out = texts_of(path, Split::held_out);
    REQUIRE(held_out.size() == 1);
    CHECK(held_out[0].size() % 3 == 0);
    CHECK(texts_of(path, Split::training)[0] + held_out[0] == text);
  }
  SECTION("of the last one where the hash chooses none of a few") {
    folder.write("few/a.txt", "first");
    folder.write("few/b.txt", std::string(1000, 'b'));
    const auto path = (folder.path() / "few").string();
    CHECK(texts_of(path, Split::training) == Texts{"first", std::string(950, 'b')});
    CHECK(texts_of(path, Split::held_out) == Texts{std::string(50, 'b')});
  }
}
