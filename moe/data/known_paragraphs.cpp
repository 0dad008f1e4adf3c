#include "moe/data/known_paragraphs.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "moe/data/permutation.h"

namespace moe {
namespace {

constexpr size_t kRunLength = 4;
constexpr std::string_view kBreak = "\n\n";
constexpr std::string_view kSpace = " \t\r\n";

/// Takes the paragraph at the beginning of `text` away from it.
std::string_view next_paragraph(std::string_view& text) {
  const size_t end = std::min(text.find(kBreak), text.size());
  const auto paragraph = text.substr(0, end);
  text.remove_prefix(std::min(end + kBreak.size(), text.size()));
  return paragraph;
}

/// Hashes of all runs of four words; of all words together where there are fewer.
std::vector<uint64_t> runs_of(std::string_view paragraph) {
  std::vector<uint64_t> words;
  for (size_t begin = paragraph.find_first_not_of(kSpace); begin != std::string_view::npos;) {
    const size_t end = std::min(paragraph.find_first_of(kSpace, begin), paragraph.size());
    words.push_back(std::hash<std::string_view>()(paragraph.substr(begin, end - begin)));
    begin = paragraph.find_first_not_of(kSpace, end);
  }
  std::vector<uint64_t> runs;
  const size_t length = std::min(kRunLength, words.size());
  for (size_t i = 0; length > 0 && i + length <= words.size(); ++i) {
    uint64_t run = length;
    for (size_t j = 0; j < length; ++j) {
      run = mix_bits({run, words[i + j]});
    }
    runs.push_back(run);
  }
  return runs;
}

} // namespace

void KnownParagraphs::add(std::string_view text) {
  while (!text.empty()) {
    const auto runs = runs_of(next_paragraph(text));
    runs_.insert(runs.begin(), runs.end());
  }
}

bool KnownParagraphs::is_known(std::string_view paragraph) const {
  const auto runs = runs_of(paragraph);
  const auto known = std::count_if(
      runs.begin(), runs.end(), [&](uint64_t run) { return runs_.count(run) > 0; });
  return !runs.empty() && 2 * static_cast<size_t>(known) >= runs.size();
}

std::string KnownParagraphs::without_known(std::string_view text) const {
  std::string kept;
  while (!text.empty()) {
    const auto paragraph = next_paragraph(text);
    if (!is_known(paragraph)) {
      kept += kept.empty() ? "" : kBreak;
      kept += paragraph;
    }
  }
  if (!kept.empty() && !kept.ends_with('\n')) {
    kept += '\n';
  }
  return kept;
}

} // namespace moe
