#include "moe/evaluation/tasks.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "moe/data/utf8.h"
#include "moe/error.h"
#include "moe/files/json_internal.h"

namespace moe {
namespace {

std::string string_of(const Json& object, const char* key, const std::string& where) {
  const auto entry = object.find(key);
  check(
      entry != object.end() && entry->is_string(), where, ": expected a string \"", key, "\"");
  return entry->get<std::string>();
}

MultipleChoice read_question(const Json& object, const std::string& where) {
  MultipleChoice question;
  question.context = string_of(object, "context", where);
  const auto choices = object.find("choices");
  check(
      choices != object.end() && choices->is_array() && !choices->empty(),
      where,
      ": expected a list \"choices\" with at least one text");
  for (const auto& choice : *choices) {
    check(
        choice.is_string() && !choice.get_ref<const std::string&>().empty(),
        where,
        ": \"choices\" has something that is no text, or empty");
    question.choices.push_back(choice.get<std::string>());
  }
  const auto label = object.find("label");
  const bool is_index = label != object.end() && label->is_number_unsigned() &&
                        label->get<uint64_t>() < static_cast<uint64_t>(question.choices.size());
  check(is_index, where, ": expected \"label\", the index of one of the choices");
  question.label = label->get<int64_t>();
  return question;
}

/// Python's whitespace in ASCII and the no-break and wide spaces of `str.rstrip`.
bool is_space(char32_t code_point) {
  return code_point == ' ' || (code_point >= 0x09 && code_point <= 0x0D) ||
         (code_point >= 0x1C && code_point <= 0x1F) || code_point == 0x85 ||
         code_point == 0xA0 || code_point == 0x1680 ||
         (code_point >= 0x2000 && code_point <= 0x200A) || code_point == 0x2028 ||
         code_point == 0x2029 || code_point == 0x202F || code_point == 0x205F ||
         code_point == 0x3000;
}

int64_t count_characters(std::string_view text) {
  int64_t count = 0;
  for (; !text.empty(); ++count) {
    text.remove_prefix(next_utf8(text).length);
  }
  return count;
}

/// The pieces of Python's `re.split(r"\s+", text)`: one more than there are runs of spaces.
int64_t count_words(std::string_view text) {
  int64_t runs = 0;
  bool was_space = false;
  while (!text.empty()) {
    const auto step = next_utf8(text);
    const bool space = is_space(step.code_point);
    runs += space && !was_space ? 1 : 0;
    was_space = space;
    text.remove_prefix(step.length);
  }
  return runs + 1;
}

/// Mean, and the sample's standard deviation divided by the root of its size.
Accuracy accuracy(const std::vector<bool>& right) {
  const auto count = static_cast<double>(right.size());
  const auto hits = static_cast<double>(std::count(right.begin(), right.end(), true));
  Accuracy result;
  result.value = hits / count;
  const double squares = hits * (1.0 - result.value) * (1.0 - result.value) +
                         (count - hits) * result.value * result.value;
  result.stderr_ = count > 1 ? std::sqrt(squares / (count - 1.0) / count) : 0.0;
  return result;
}

} // namespace

Tasks read_tasks(const std::filesystem::path& file) {
  std::ifstream stream(file);
  check(stream.good(), file.string(), ": cannot be read");
  Tasks tasks;
  int64_t number = 0;
  for (std::string line; std::getline(stream, line);) {
    const auto where = file.string() + ":" + std::to_string(++number);
    if (line.find_first_not_of(" \t\r") == std::string::npos) {
      continue;
    }
    const auto object = parse_json(line, where);
    check(object.is_object(), where, ": expected an object");
    if (object.contains("text")) {
      tasks.texts.push_back(string_of(object, "text", where));
      check(!tasks.texts.back().empty(), where, ": \"text\" is empty");
    } else {
      tasks.questions.push_back(read_question(object, where));
    }
  }
  check(
      !tasks.questions.empty() || !tasks.texts.empty(),
      file.string(),
      ": there is no question and no text in it");
  return tasks;
}

LikelihoodRequest encode_choice(
    const Tokenizer& tokenizer,
    const std::string& context,
    const std::string& continuation,
    int32_t prefix) {
  if (context.empty()) {
    return {{prefix}, tokenizer.encode(continuation)};
  }
  size_t end = context.size();
  while (end > 0) {
    const auto step = last_utf8(std::string_view(context).substr(0, end));
    if (!step.valid || !is_space(step.code_point)) {
      break;
    }
    end -= step.length;
  }
  auto before = tokenizer.encode(std::string_view(context).substr(0, end));
  const auto whole = tokenizer.encode(context + continuation);
  const auto size = std::min(before.size(), whole.size());
  LikelihoodRequest request = {
      std::move(before), {whole.begin() + static_cast<int64_t>(size), whole.end()}};
  if (request.context.empty()) { // nothing but spaces
    request.context = {prefix};
  }
  return request;
}

std::vector<LikelihoodRequest> rolling_requests(
    const std::vector<int32_t>& ids, int32_t prefix, int64_t max_length) {
  std::vector<LikelihoodRequest> requests;
  const auto size = static_cast<int64_t>(ids.size());
  for (int64_t begin = 0; begin < size;) {
    const int64_t end = std::min(size, begin + max_length);
    // The first of these ids is predicted from all that fits before it.
    const int64_t first = begin == 0 ? 0 : std::max<int64_t>(0, end - max_length - 1);
    LikelihoodRequest request;
    if (begin == 0) {
      request.context = {prefix};
    } else {
      request.context.assign(ids.begin() + first, ids.begin() + begin);
    }
    request.continuation.assign(ids.begin() + begin, ids.begin() + end);
    requests.push_back(std::move(request));
    begin = end;
  }
  return requests;
}

ChoiceScore score_choices(
    const std::vector<MultipleChoice>& questions,
    const std::vector<std::vector<double>>& log_likelihoods) {
  check(questions.size() == log_likelihoods.size(), "tasks: a question has no likelihoods");
  std::vector<bool> right;
  std::vector<bool> right_by_characters;
  std::vector<bool> right_by_bytes;
  for (size_t i = 0; i < questions.size(); ++i) {
    const auto& [context, choices, label] = questions[i];
    const auto is_best = [&, label = label](const std::vector<double>& scores) {
      return std::max_element(scores.begin(), scores.end()) - scores.begin() == label;
    };
    auto by_characters = log_likelihoods[i];
    auto by_bytes = log_likelihoods[i];
    for (size_t j = 0; j < by_bytes.size(); ++j) {
      by_characters[j] /= static_cast<double>(count_characters(questions[i].choices[j]));
      by_bytes[j] /= static_cast<double>(questions[i].choices[j].size());
    }
    right.push_back(is_best(log_likelihoods[i]));
    right_by_characters.push_back(is_best(by_characters));
    right_by_bytes.push_back(is_best(by_bytes));
  }
  return {
      static_cast<int64_t>(questions.size()),
      accuracy(right),
      accuracy(right_by_characters),
      accuracy(right_by_bytes)};
}

RollingScore score_texts(
    const std::vector<std::string>& texts, const std::vector<double>& log_likelihoods) {
  check(texts.size() == log_likelihoods.size(), "tasks: a text has no likelihood");
  double sum = 0.0;
  double words = 0.0;
  double bytes = 0.0;
  for (size_t i = 0; i < texts.size(); ++i) {
    sum += log_likelihoods[i];
    words += static_cast<double>(count_words(texts[i]));
    bytes += static_cast<double>(texts[i].size());
  }
  return {
      static_cast<int64_t>(texts.size()),
      std::exp(-sum / words),
      std::exp(-sum / bytes),
      -sum / bytes / std::log(2.0)};
}

} // namespace moe
