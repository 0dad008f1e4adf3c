#include "moe/evaluation/tasks.h"

#include <cmath>

#include "moe/error.h"
#include "tests/support/catch.h"
#include "tests/support/temporary_folder.h"

using namespace moe;

using TokenIds = std::vector<int32_t>;

TEST_CASE("read_tasks takes questions and texts", "[evaluation]") {
  const TemporaryFolder folder;
  const auto file = folder.write(
      "tasks.jsonl",
      "{\"context\": \"2 + 2 =\", \"choices\": [\"4\", \"5\"], \"label\": 0}\n\n"
      "{\"text\": \"A document.\"}\n");
  const auto tasks = read_tasks(file);
  REQUIRE(tasks.questions.size() == 1);
  CHECK(tasks.questions[0].context == "2 + 2 =");
  CHECK(tasks.questions[0].choices == std::vector<std::string>{"4", "5"});
  CHECK(tasks.questions[0].label == 0);
  CHECK(tasks.texts == std::vector<std::string>{"A document."});
}

TEST_CASE("read_tasks names file and line of a mistake", "[evaluation]") {
  const TemporaryFolder folder;
  const auto [line, message] = GENERATE(table<std::string, std::string>({
      {"[]", "expected an object"},
      {"{", "tasks.jsonl:2"},
      {R"({"choices": ["a"], "label": 0})", "\"context\""},
      {R"({"context": "", "choices": [], "label": 0})", "at least one text"},
      {R"({"context": "", "choices": [""], "label": 0})", "or empty"},
      {R"({"context": "", "choices": ["a"], "label": 1})", "index of one of the choices"},
      {R"({"context": "", "choices": ["a"], "label": "0"})", "index of one of the choices"},
      {R"({"text": 5})", "\"text\""},
      {R"({"text": ""})", "is empty"},
  }));
  const auto file = folder.write("tasks.jsonl", "{\"text\": \"x\"}\n" + line + "\n");
  CHECK_THROWS_WITH(
      read_tasks(file), ContainsSubstring("tasks.jsonl:2") && ContainsSubstring(message));
  CHECK_THROWS_WITH(
      read_tasks(folder.write("empty.jsonl", "\n")), ContainsSubstring("no question"));
  CHECK_THROWS_WITH(read_tasks(folder.path() / "none"), ContainsSubstring("cannot be read"));
}

TEST_CASE("encode_choice: spaces that end the context belong to the choice", "[evaluation]") {
  const auto tokenizer = Tokenizer::train_bpe({"ab ab ab ab"}, 300);
  const auto request = encode_choice(tokenizer, "ab  ", "ab", 7);
  CHECK(tokenizer.decode(request.context) == "ab");
  CHECK(tokenizer.decode(request.continuation) == "  ab");
  const auto alone = encode_choice(tokenizer, "", " ab", 7);
  CHECK(alone.context == TokenIds{7});
  CHECK(alone.continuation == tokenizer.encode(" ab"));
}

TEST_CASE(
    "rolling_requests predicts every id once, with all that fits before", "[evaluation]") {
  const auto requests = rolling_requests({1, 2, 3, 4, 5, 6, 7}, 0, 3);
  REQUIRE(requests.size() == 3);
  CHECK(requests[0].context == TokenIds{0});
  CHECK(requests[0].continuation == TokenIds{1, 2, 3});
  CHECK(requests[1].context == TokenIds{3});
  CHECK(requests[1].continuation == TokenIds{4, 5, 6});
  CHECK(requests[2].context == TokenIds{4, 5, 6}); // a shorter end sees more
  CHECK(requests[2].continuation == TokenIds{7});
  CHECK(rolling_requests({}, 0, 3).empty());
}

TEST_CASE("score_choices: the three ways to compare", "[evaluation]") {
  const std::vector<MultipleChoice> questions = {
      {"", {"a", "bbbb"}, 0}, {"", {"a", "bbbb"}, 1}, {"", {"ää", "bbb"}, 1}};
  // By sum the first wins always; per character and per byte others do.
  const auto score = score_choices(questions, {{-1.0, -2.0}, {-1.0, -2.0}, {-1.0, -1.4}});
  CHECK(score.questions == 3);
  CHECK_THAT(score.acc.value, WithinAbs(1.0 / 3.0, 1e-12));
  CHECK_THAT(score.acc_norm.value, WithinAbs(2.0 / 3.0, 1e-12));  // -0.5 against -0.467
  CHECK_THAT(score.acc_bytes.value, WithinAbs(1.0 / 3.0, 1e-12)); // -0.25 against -0.467
  // sample deviation / sqrt(n) of {1, 0, 0}
  CHECK_THAT(score.acc.stderr_, WithinAbs(std::sqrt(1.0 / 3.0) / std::sqrt(3.0), 1e-12));
}

TEST_CASE("score_texts weighs documents by their words and bytes", "[evaluation]") {
  const auto score = score_texts({"one two\n three", "é "}, {-3.0, -2.0});
  CHECK(score.documents == 2);
  CHECK_THAT(score.word_perplexity, WithinRel(std::exp(5.0 / 5.0), 1e-12)); // "é", ""
  CHECK_THAT(score.byte_perplexity, WithinRel(std::exp(5.0 / 17.0), 1e-12));
  CHECK_THAT(score.bits_per_byte, WithinRel(5.0 / 17.0 / std::log(2.0), 1e-12));
}
