#include "moe/data/ascii_sentences.h"

#include <algorithm>
#include <array>

namespace moe {
namespace {

constexpr std::array<std::string_view, 3> kSentenceEnds = {"。", "！", "？"};

size_t sentence_length(std::string_view line) {
  size_t length = line.size();
  for (const auto end : kSentenceEnds) {
    const size_t found = line.find(end);
    length = found == std::string_view::npos ? length : std::min(length, found + end.size());
  }
  return length;
}

double ascii_share(std::string_view sentence) {
  size_t characters = 0;
  size_t ascii = 0;
  for (const unsigned char byte : sentence) {
    const bool shown = byte > ' ' && (byte & 0xC0) != 0x80;
    characters += shown;
    ascii += shown && byte < 0x80;
  }
  return characters == 0 ? 0 : static_cast<double>(ascii) / static_cast<double>(characters);
}

std::string kept_sentences(std::string_view line, double max_share) {
  std::string kept;
  while (!line.empty()) {
    const auto sentence = line.substr(0, sentence_length(line));
    if (ascii_share(sentence) <= max_share) {
      kept += sentence;
    }
    line.remove_prefix(sentence.size());
  }
  return kept.find_first_not_of(" \t\r") == std::string::npos ? "" : kept;
}

} // namespace

std::string without_ascii_sentences(std::string_view text, double max_share) {
  std::string kept;
  std::string_view line_break = "";
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const auto line = kept_sentences(text.substr(0, end), max_share);
    if (!line.empty()) {
      kept += kept.empty() ? "" : line_break;
      kept += line;
      line_break = "\n";
    } else if (end == 0) {
      line_break = "\n\n";
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return kept.empty() ? kept : kept + '\n';
}

} // namespace moe
