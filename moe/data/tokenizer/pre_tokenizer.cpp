#include "moe/data/tokenizer/pre_tokenizer.h"

#include <functional>
#include <optional>
#include <string>

#include "moe/data/tokenizer/regex.h"
#include "moe/data/tokenizer/unicode_classes.h"

namespace moe {
namespace {

using PreTokenizerKind = PreTokenizerStep::Kind;

/// A part of a text: what was looked for, or what lies between.
struct Span {
  size_t begin;
  size_t end;
  bool is_match;
};

/// Spans that follow each other without gaps.
class Spans {
 public:
  void add_match(size_t begin, size_t end) {
    close(begin);
    spans_.push_back({begin, end, true});
    end_ = end;
  }

  std::vector<Span> finish(size_t size) {
    close(size);
    return std::move(spans_);
  }

 private:
  void close(size_t begin) {
    if (begin > end_) {
      spans_.push_back({end_, begin, false});
    }
  }

  std::vector<Span> spans_;
  size_t end_ = 0;
};

/// One span for each character that `is_wanted`.
template <class IsWanted>
std::vector<Span> find_characters(std::string_view text, IsWanted&& is_wanted) {
  Spans spans;
  for (size_t position = 0; position < text.size();) {
    const auto step = next_utf8(text.substr(position));
    if (step.valid && is_wanted(step.code_point)) {
      spans.add_match(position, position + step.length);
    }
    position += step.length;
  }
  return spans.finish(text.size());
}

std::vector<Span> find_text(std::string_view text, std::string_view wanted) {
  Spans spans;
  for (size_t at = text.find(wanted); at != std::string_view::npos;
       at = text.find(wanted, at + wanted.size())) {
    spans.add_match(at, at + wanted.size());
  }
  return spans.finish(text.size());
}

/// Matches in the valid parts of `text`; a byte that is no UTF-8 counts as a match.
std::vector<Span> find_regex(std::string_view text, const Regex& regex) {
  Spans spans;
  for (size_t begin = 0; begin < text.size();) {
    const auto valid = text.substr(begin, valid_utf8_prefix(text.substr(begin)));
    regex.for_each_match(
        valid, [&](size_t match, size_t end) { spans.add_match(begin + match, begin + end); });
    begin += valid.size();
    if (begin < text.size()) {
      spans.add_match(begin, begin + 1);
      ++begin;
    }
  }
  return spans.finish(text.size());
}

/// Runs of word characters and runs of what is neither word nor space; spaces are left out.
std::vector<Span> find_words(std::string_view text) {
  static const auto word = unicode_ranges("word").value();
  std::vector<Span> spans;
  int kind_before = 0;
  for (size_t position = 0; position < text.size();) {
    const auto step = next_utf8(text.substr(position));
    const bool is_space =
        step.valid && character_class(step.code_point) == CharacterClass::space;
    const int kind = is_space ? 0 : step.valid && contains(word, step.code_point) ? 1 : 2;
    if (kind != 0 && kind == kind_before) {
      spans.back().end = position + step.length;
    } else if (kind != 0) {
      spans.push_back({position, position + step.length, false});
    }
    kind_before = kind;
    position += step.length;
  }
  return spans;
}

/// The pieces that spans become. They end up in order, some of them empty.
std::vector<Span> cut(std::vector<Span> spans, SplitBehavior behavior) {
  std::vector<Span> pieces;
  for (size_t i = 0; i < spans.size(); ++i) {
    const auto& span = spans[i];
    const bool follows_match = i > 0 && spans[i - 1].is_match;
    const bool joins =
        i > 0 &&
        ((behavior == SplitBehavior::contiguous && span.is_match == spans[i - 1].is_match) ||
         (behavior == SplitBehavior::merged_with_previous && span.is_match && !follows_match) ||
         (behavior == SplitBehavior::merged_with_next && !span.is_match && follows_match));
    if (behavior == SplitBehavior::removed && span.is_match) {
      continue;
    }
    if (joins) {
      pieces.back().end = span.end;
    } else {
      pieces.push_back(span);
    }
  }
  return pieces;
}

std::string with_spaces_replaced(std::string_view text, const std::string& replacement) {
  std::string result;
  for (const char byte : text) {
    if (byte == ' ') {
      result += replacement;
    } else {
      result.push_back(byte);
    }
  }
  return result;
}

bool is_digit(char32_t code_point) {
  static const auto digits = unicode_ranges("digit").value();
  return contains(digits, code_point);
}

bool is_punctuation(char32_t code_point) {
  static const auto punctuation = unicode_ranges("punctuation").value();
  return contains(punctuation, code_point);
}

bool is_space(char32_t code_point) {
  return character_class(code_point) == CharacterClass::space;
}

} // namespace

struct PreTokenizer::Step {
  PreTokenizerStep definition;
  std::optional<Regex> regex;

  std::vector<Span> find(std::string_view text) const {
    switch (definition.kind) {
      case PreTokenizerKind::digits:
        return find_characters(text, is_digit);
      case PreTokenizerKind::punctuation:
        return find_characters(text, is_punctuation);
      case PreTokenizerKind::whitespace_split:
        return find_characters(text, is_space);
      default:
        break;
    }
    auto spans = regex ? find_regex(text, *regex) : find_text(text, definition.search.text);
    for (auto& span : spans) {
      span.is_match = span.is_match != definition.invert;
    }
    return spans;
  }

  /// The text with its spaces written as `content` and one of it in front.
  std::string metaspace_text(std::string_view text, bool is_first) const {
    const auto prepend = definition.prepend;
    auto result = with_spaces_replaced(text, definition.content);
    const bool prepends = prepend == PreTokenizerStep::Prepend::always ||
                          (prepend == PreTokenizerStep::Prepend::first && is_first);
    if (prepends && result.rfind(definition.content, 0) != 0) {
      result.insert(0, definition.content);
    }
    return result;
  }

  /// Calls `visit` with the pieces of one piece.
  template <class Visit>
  void apply(std::string_view text, bool is_first, Visit&& visit) const {
    const auto visit_all = [&](std::string_view whole, const std::vector<Span>& spans) {
      for (const auto& span : spans) {
        if (span.end > span.begin) {
          visit(whole.substr(span.begin, span.end - span.begin));
        }
      }
    };
    switch (definition.kind) {
      case PreTokenizerKind::scanner:
        for_each_piece(definition.pattern, text, visit);
        return;
      case PreTokenizerKind::prefix_space:
        visit(text[0] == ' ' ? std::string(text) : std::string(1, ' ').append(text));
        return;
      case PreTokenizerKind::whitespace:
        visit_all(text, find_words(text));
        return;
      case PreTokenizerKind::metaspace: {
        const auto replaced = metaspace_text(text, is_first);
        if (definition.split_words) {
          const auto spans = find_text(replaced, definition.content);
          visit_all(replaced, cut(spans, SplitBehavior::merged_with_next));
        } else {
          visit(replaced);
        }
        return;
      }
      default:
        visit_all(text, cut(find(text), definition.behavior));
    }
  }
};

PreTokenizer::PreTokenizer(const std::vector<PreTokenizerStep>& steps)
    : is_scanner_(
          steps.empty() || (steps.size() == 1 && steps[0].kind == PreTokenizerKind::scanner)) {
  if (is_scanner_) {
    scanner_ = steps.empty() ? Pattern::none : steps[0].pattern;
  }
  for (const auto& step : steps) {
    steps_.push_back({step, std::nullopt});
    if (step.kind == PreTokenizerKind::split && step.search.is_regex) {
      steps_.back().regex.emplace(step.search.text);
    }
  }
}

PreTokenizer::~PreTokenizer() = default;

std::vector<std::string> PreTokenizer::pieces(std::string_view text, bool is_first) const {
  std::vector<std::string> pieces;
  if (!text.empty()) {
    pieces.emplace_back(text);
  }
  for (const auto& step : steps_) {
    std::vector<std::string> next;
    bool is_first_piece = is_first;
    for (const auto& piece : pieces) {
      step.apply(
          piece, is_first_piece, [&](std::string_view part) { next.emplace_back(part); });
      is_first_piece = false;
    }
    pieces = std::move(next);
  }
  return pieces;
}

} // namespace moe
