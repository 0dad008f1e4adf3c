#pragma once

#include <cstdint>
#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer.h"
#include "moe/error.h"

namespace moe::test {

inline std::string tokenizer_fixture(const std::string& name) {
  return std::string(MOE_TEST_FIXTURES) + "/tokenizer/" + name;
}

inline std::vector<std::string> fixture_lines(const std::string& name) {
  std::ifstream file(tokenizer_fixture(name));
  check(file.good(), tokenizer_fixture(name), ": cannot be read");
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

/// The texts of a file with one text a line, as hexadecimal.
inline std::vector<std::string> hexadecimal_texts(const std::string& name) {
  std::vector<std::string> texts;
  for (const auto& line : fixture_lines(name)) {
    std::string text;
    for (size_t i = 0; i + 1 < line.size(); i += 2) {
      text.push_back(static_cast<char>(std::stoi(line.substr(i, 2), nullptr, 16)));
    }
    texts.push_back(text);
  }
  return texts;
}

inline std::vector<std::string> golden_texts() {
  return hexadecimal_texts("strings.hex");
}

/// The ids of each golden text with `NAME.json`.
inline std::vector<std::vector<int32_t>> golden_ids(const std::string& name) {
  std::vector<std::vector<int32_t>> ids;
  for (const auto& line : fixture_lines(name + ".ids")) {
    std::istringstream stream(line);
    ids.emplace_back(std::istream_iterator<int32_t>(stream), std::istream_iterator<int32_t>());
  }
  return ids;
}

inline std::vector<std::string_view> views(const std::vector<std::string>& texts) {
  return {texts.begin(), texts.end()};
}

/// Up to `max_bytes` bytes: some of them any, most from pieces of text and of characters.
inline std::string random_bytes(std::mt19937& random, size_t max_bytes) {
  static const std::vector<std::string> pieces = {
      " ",  "  ",     "\n",   "\r\n",     "\t",     "a",  "the",
      "'s", "'LL",    "12",   "é",        "世",     "界", "й",
      "😀",  "\xE4",   "\x80", "\xF0\x9F", "\u3000", "!",  "<|endoftext|>",
      "<|", "\u0301", "ſ",    "'"};
  std::string text;
  const size_t size = random() % (max_bytes + 1);
  while (text.size() < size) {
    if (random() % 4 == 0) {
      text.push_back(static_cast<char>(random() % 256));
    } else {
      text += pieces[random() % pieces.size()];
    }
  }
  return text;
}

} // namespace moe::test
