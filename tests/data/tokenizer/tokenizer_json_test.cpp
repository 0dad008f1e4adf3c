#include <nlohmann/json.hpp>

#include "moe/error.h"
#include "tests/data/tokenizer/golden.h"
#include "tests/support/catch.h"

using namespace moe;
using nlohmann::json;

namespace {

using Ids = std::vector<int32_t>;

/// A small correct file: bytes, "ab" (256) and "abc" (257), "<end>" (258).
json small_file() {
  auto file = json::parse(Tokenizer::bytes().to_json());
  file["pre_tokenizer"]["use_regex"] = true;
  file["model"]["vocab"]["ab"] = 256;
  file["model"]["vocab"]["abc"] = 257;
  file["model"]["merges"] = {"a b", "ab c"};
  file["added_tokens"][0]["id"] = 258;
  file["added_tokens"][0]["content"] = "<end>";
  return file;
}

json added_token(int64_t id, const std::string& content) {
  auto token = small_file()["added_tokens"][0];
  token["id"] = id;
  token["content"] = content;
  return token;
}

Tokenizer load(const json& file) {
  return Tokenizer::from_json(file.dump(), "small.json");
}

/// Sets one place of the small file and expects a refusal that names it.
void check_refused(const char* place, const json& value, const std::string& message) {
  CAPTURE(place, value.dump());
  auto file = small_file();
  file[json::json_pointer(place)] = value;
  CHECK_THROWS_WITH(
      load(file), ContainsSubstring("small.json: ") && ContainsSubstring(message));
}

} // namespace

TEST_CASE("tokenizer.json: the forms of merges", "[data]") {
  auto file = small_file();
  CHECK(load(file).encode("abc ab<end>") == Ids{257, 32, 256, 258});
  file["model"]["merges"] = json::parse(R"([["a", "b"], ["ab", "c"]])");
  CHECK(load(file).encode("abc ab<end>") == Ids{257, 32, 256, 258});
}

TEST_CASE("tokenizer.json: older files", "[data]") {
  auto file = small_file();
  file["model"].erase("type");
  file["model"]["continuing_subword_prefix"] = "";
  file["model"]["end_of_word_suffix"] = "";
  file["pre_tokenizer"].erase("use_regex");
  CHECK(load(file).encode("abc ab") == Ids{257, 32, 256});
}

TEST_CASE("tokenizer.json: Sequence in Sequence", "[data]") {
  auto file = small_file();
  for (int i = 0; i < 20; ++i) {
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", {file["pre_tokenizer"]}}};
  }
  CHECK(load(file).encode("abc ab") == Ids{257, 32, 256});
}

TEST_CASE("tokenizer.json: add_prefix_space works on text between added tokens", "[data]") {
  auto file = small_file();
  file["pre_tokenizer"]["add_prefix_space"] = true;
  CHECK(
      load(file).encode("ab<end>ab<end><end> ab") ==
      Ids{32, 256, 258, 32, 256, 258, 258, 32, 256});
}

TEST_CASE("tokenizer.json: of added tokens the longest at the leftmost place wins", "[data]") {
  auto file = small_file();
  for (const auto* content : {"<e", "<end>x", "new york", "york x"}) {
    file["added_tokens"].push_back(
        added_token(258 + static_cast<int64_t>(file["added_tokens"].size()), content));
  }
  const auto tokenizer = load(file);
  CHECK(tokenizer.encode("<end>x<end><en") == Ids{260, 258, 259, 'n'});
  CHECK(tokenizer.encode("new york x") == Ids{261, 32, 'x'});
  SECTION("but tokens that are normalized come second") {
    file["added_tokens"][3]["normalized"] = true;
    CHECK(load(file).encode("new york x") == Ids{'n', 'e', 'w', 32, 262});
  }
  SECTION("and those that are not special are found in ordinary text") {
    file["added_tokens"][1]["special"] = false;
    CHECK(load(file).encode_ordinary("<end><e") == Ids{'<', 'e', 'n', 'd', '>', 259});
  }
}

TEST_CASE("tokenizer.json: a token with characters outside the byte alphabet", "[data]") {
  auto file = small_file();
  file["added_tokens"].push_back(added_token(259, "<｜end▁of▁sentence｜>"));
  const auto tokenizer = load(file);
  CHECK(tokenizer.decode(Ids{259}) == "<｜end▁of▁sentence｜>");
  CHECK(tokenizer.end_of_text() == 259);
}

TEST_CASE("tokenizer.json: the post-processor is kept", "[data]") {
  auto file = small_file();
  file["post_processor"] = json::parse(R"({"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<end>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<end>": {"id": "<end>", "ids": [258], "tokens": ["<end>"]}}})");
  const auto tokenizer = load(file);
  CHECK(tokenizer.encode("ab") == Ids{256});
  CHECK(tokenizer.with_special_tokens({256}) == Ids{258, 256});
  CHECK(json::parse(tokenizer.to_json())["post_processor"] == file["post_processor"]);

  const auto refuse = [&](const char* place, const json& value, const std::string& message) {
    auto broken = file;
    broken["post_processor"][json::json_pointer(place)] = value;
    CHECK_THROWS_WITH(load(broken), ContainsSubstring(message));
  };
  refuse("/special_tokens/<end>/ids/0", 300, "no token has id 300");
  refuse("/special_tokens/<end>/ids/0", -1, "found -1");
  refuse("/special_tokens/<end>/ids", json::array(), "has no ids");
  refuse("/single/0/SpecialToken/id", "<other>", "not in special_tokens");
  refuse("/single/1", 5, "expected objects");
  refuse("/type", "BertProcessing", "BertProcessing");
}

TEST_CASE("tokenizer.json: unsupported parts are named", "[data]") {
  check_refused("/version", "2.0", "version: \"2.0\"");
  check_refused("/truncation", {{"max_length", 5}}, "truncation");
  check_refused("/padding", {{"pad_id", 5}}, "padding");
  check_refused("/normalizer", {{"type", "BertNormalizer"}}, "normalizer: \"BertNormalizer\"");
  check_refused(
      "/pre_tokenizer", {{"type", "BertPreTokenizer"}}, "pre_tokenizer: \"BertPreTokenizer\"");
  check_refused("/decoder", {{"type", "WordPiece"}}, "decoder: \"WordPiece\"");
  check_refused("/decoder", nullptr, "decoder: there is none");
  check_refused("/decoder", {{"type", "Fuse"}}, "pre_tokenizer ends with ByteLevel");
  check_refused("/model/type", "Unigram", "model.type: \"Unigram\"");
  check_refused("/model/dropout", 0.1, "model.dropout");
  check_refused("/model/end_of_word_suffix", "</w>", "model.end_of_word_suffix");
}

TEST_CASE("tokenizer.json: regular expressions that are not supported are named", "[data]") {
  const auto [expression, message] = GENERATE(table<std::string, std::string>({
      {"(a", "not closed"},
      {"a)", "\")\" without"},
      {"[a", "not closed"},
      {"[]", "empty class"},
      {"[a[b]]", "in a class"},
      {"[a&&b]", "in a class"},
      {"[b-a]", "range"},
      {"\\w+", "\"\\w\""},
      {"\\bx", "\"\\b\""},
      {"(a)\\1", "\"\\1\""},
      {"\\p{Klingon}", "Klingon"},
      {"\\p{newer}", "newer"},
      {"a{2}+", "a{2}+"},
      {"a{x}", "no repetition"},
      {"(?<name>a)", "(?<n"},
      {"(?#a)", "(?#a"},
      {"(?i:ä)", "beyond ASCII"},
      {"*", "'*'"},
      {"\\x{110000}", "code point"},
      {"\\", "ends too early"},
  }));
  const json pattern = {{"Regex", expression}};
  check_refused(
      "/pre_tokenizer",
      {{"type", "Sequence"},
       {"pretokenizers",
        {{{"type", "Split"}, {"pattern", pattern}, {"behavior", "Isolated"}, {"invert", false}},
         {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}},
      message);
}

TEST_CASE("tokenizer.json: an expression that never ends is an error", "[data]") {
  auto file = small_file();
  file["pre_tokenizer"] = {
      {"type", "Sequence"},
      {"pretokenizers",
       {{{"type", "Split"},
         {"pattern", {{"Regex", "(?:a+)+$"}}},
         {"behavior", "Isolated"},
         {"invert", false}},
        {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  const auto tokenizer = load(file);
  CHECK(tokenizer.encode("aaa") == Ids{'a', 'a', 'a'});
  CHECK_THROWS_WITH(
      tokenizer.encode(std::string(40, 'a') + "b"), ContainsSubstring("takes too long"));
}

TEST_CASE("tokenizer.json: what Split does with matches", "[data]") {
  using Pieces = std::vector<std::string>;
  const auto [behavior, invert, pieces] = GENERATE(table<std::string, bool, Pieces>({
      {"Isolated", false, {"a", "-", "-", "b", "-"}},
      {"Removed", false, {"a", "b"}},
      {"Removed", true, {"-", "-", "-"}},
      {"MergedWithPrevious", false, {"a-", "-", "b-"}},
      {"MergedWithNext", false, {"a", "-", "-b", "-"}},
      {"Contiguous", false, {"a", "--", "b", "-"}},
  }));
  CAPTURE(behavior, invert);
  auto file = small_file();
  file["pre_tokenizer"] = {
      {"type", "Split"},
      {"pattern", {{"String", "-"}}},
      {"behavior", behavior},
      {"invert", invert}};
  file["decoder"] = {{"type", "Fuse"}};
  file["model"]["vocab"] = json::object();
  // A token for each piece as a whole, and one for each character.
  const Pieces all = {"a", "b", "-", "--", "a-", "b-", "-b"};
  for (size_t i = 0; i < all.size(); ++i) {
    file["model"]["vocab"][all[i]] = i;
  }
  file["model"]["merges"] = {"- -", "a -", "b -", "- b"};
  file["added_tokens"] = json::array();
  Ids expected;
  for (const auto& piece : pieces) {
    expected.push_back(
        static_cast<int32_t>(std::find(all.begin(), all.end(), piece) - all.begin()));
  }
  CHECK(load(file).encode("a--b-") == expected);
}

TEST_CASE("tokenizer.json: added tokens have the ids of Hugging Face's reader", "[data]") {
  auto file = small_file();
  SECTION("which begin at the size of a vocabulary with holes") {
    file["model"]["vocab"]["zz"] = 1000;
    CHECK(load(file).encode("ab<end>") == Ids{256, 259});
  }
  SECTION("which pass over tokens of the vocabulary") {
    file["added_tokens"] = {
        added_token(258, "<end>"), added_token(259, "<"), added_token(260, "<|")};
    CHECK(load(file).encode("<<|<end>") == Ids{60, 259, 258});
  }
  SECTION("which no other token may have") {
    file["model"]["vocab"]["zz"] = 259;
    CHECK_THROWS_WITH(load(file), ContainsSubstring("id 259 belongs to another token"));
    file["added_tokens"][0]["id"] = 259;
    CHECK_THROWS_WITH(load(file), ContainsSubstring("id 259 belongs to another token"));
  }
}

TEST_CASE("tokenizer.json: contradictions and wrong types are refused", "[data]") {
  check_refused("/model", nullptr, "model: expected an object");
  check_refused("/model/vocab", json::object(), "no tokens");
  check_refused("/model/vocab", json::array({"a"}), "model.vocab: expected an object");
  check_refused("/model/vocab/zz", 97, "both have id 97");
  check_refused("/model/merges", "a b", "model.merges: expected an array");
  check_refused("/model/merges", {"a zz"}, "\"zz\" is not in the vocabulary");
  check_refused("/model/merges", {"b a"}, "\"ba\" is not in the vocabulary");
  check_refused("/model/merges", {"a b c"}, "with a space between");
  check_refused("/model/merges", {"ab"}, "with a space between");
  check_refused("/model/merges", {""}, "with a space between");
  check_refused("/model/merges", {"a b", json::array({"ab", "c"})}, "mixed");
  check_refused("/model/merges", {json::array({"a"})}, "expected two tokens");
  check_refused("/model/merges", {json::array({1, 2})}, "expected two tokens");
  check_refused("/model/merges", {"a b", "ab c", "a b"}, "repeats number 0");
  check_refused("/model/unk_token", "<none>", "model.unk_token");
  check_refused("/model/unk_token", 0, "model.unk_token: expected a string");
  check_refused("/model/fuse_unk", "yes", "model.fuse_unk: expected true or false");
  check_refused("/model/ignore_merges", nullptr, "model.ignore_merges");
  check_refused("/added_tokens", json::object(), "added_tokens: expected an array");
  check_refused("/added_tokens/0", nullptr, "added_tokens[0]: expected an object");
  check_refused("/added_tokens/0/content", "", "added_tokens[0].content: is empty");
  check_refused("/added_tokens/0/content", 5, "added_tokens[0].content: expected a string");
  check_refused("/added_tokens/0/special", 1, "added_tokens[0].special: expected true");
  check_refused("/added_tokens/0/id", 97, "has id 97; expected 258");
  check_refused("/added_tokens/0/id", 260, "has id 260; expected 258");
  check_refused("/added_tokens/1", added_token(259, "<end>"), "is there already");
  check_refused("/added_tokens/1", added_token(258, "<new>"), "has id 258; expected 259");
  check_refused("/added_tokens/1", added_token(300, "ab"), "expected 256 as in model.vocab");
  check_refused("/pre_tokenizer", "ByteLevel", "pre_tokenizer: expected an object");
  check_refused("/pre_tokenizer/type", nullptr, "pre_tokenizer.type: expected a string");
}

TEST_CASE("tokenizer.json: ids outside of 0 to 2^31 - 1 are refused", "[data]") {
  const auto id = GENERATE(
      as<std::string>(),
      "-1",
      "1.5",
      "97.0",
      "\"97\"",
      "null",
      "true",
      "[97]",
      "2147483648",
      "4294967296",
      "18446744073709551616",
      "1e3");
  CAPTURE(id);
  check_refused("/model/vocab/ab", json::parse(id), "model.vocab[\"ab\"]");
  check_refused("/added_tokens/0/id", json::parse(id), "added_tokens[0].id");
}

TEST_CASE("tokenizer.json: an id far out costs no memory", "[data]") {
  auto file = small_file();
  file["added_tokens"] = json::array();
  file["model"]["vocab"]["zz"] = INT32_MAX;
  const auto tokenizer = load(file);
  CHECK(tokenizer.vocab_size() == int64_t{1} << 31);
  CHECK(tokenizer.decode(Ids{INT32_MAX}) == "zz");
  CHECK_THROWS_AS(tokenizer.decode(Ids{INT32_MAX - 1}), Error);
}

TEST_CASE("tokenizer.json: text that is no proper JSON is refused", "[data]") {
  const auto valid = small_file().dump();
  const auto load_text = [](const std::string& text) {
    return Tokenizer::from_json(text, "small.json");
  };
  CHECK(load_text(valid).vocab_size() == 259);
  for (size_t length = 0; length < valid.size(); length += 1 + valid.size() / 97) {
    CAPTURE(length);
    CHECK_THROWS_WITH(load_text(valid.substr(0, length)), ContainsSubstring("small.json: "));
  }
  for (const std::string& text :
       {std::string("null"),
        std::string("[]"),
        std::string("\"x\""),
        valid + "x",
        valid + valid,
        valid + std::string("\0{}", 3),
        "// comment\n" + valid,
        std::string(100000, '['),
        "{\"model\":" + valid.substr(1),
        "{\"normalizer\": null, " + valid.substr(1),
        "{\"x\": \"\\ud800\", " + valid.substr(1),
        "{\"x\": \"\xC0\xAF\", " + valid.substr(1),
        "{\"x\": NaN, " + valid.substr(1)}) {
    CAPTURE(text.substr(0, 40));
    CHECK_THROWS_WITH(load_text(text), ContainsSubstring("small.json: "));
  }
}

TEST_CASE("tokenizer.json: damaged anywhere it is read or refused", "[data]") {
  const auto valid = small_file().dump();
  std::mt19937 random(5);
  int refused = 0;
  for (int i = 0; i < 300; ++i) {
    auto text = valid;
    for (size_t n = 1 + random() % 3; n > 0; --n) {
      const size_t position = random() % text.size();
      if (random() % 2 == 0) {
        text[position] = "\"{}[],:0-9ab\\"[random() % 13];
      } else {
        text.erase(position, random() % 20);
      }
    }
    try {
      Tokenizer::from_json(text, "small.json").encode("abc ab");
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > 0);
}
