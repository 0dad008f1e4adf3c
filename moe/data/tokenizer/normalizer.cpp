#include "moe/data/tokenizer/normalizer.h"

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "moe/data/tokenizer/regex.h"
#include "moe/data/tokenizer/unicode_classes.h"
#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe {
namespace {

using NormalizerKind = NormalizerStep::Kind;

utf8proc_option_t utf8proc_options(NormalizerKind form) {
  const bool composes = form == NormalizerKind::nfc || form == NormalizerKind::nfkc;
  const bool is_compatible = form == NormalizerKind::nfkc || form == NormalizerKind::nfkd;
  return static_cast<utf8proc_option_t>(
      UTF8PROC_STABLE | (composes ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
      (is_compatible ? UTF8PROC_COMPAT : 0));
}

/// The normal form of valid UTF-8 by utf8proc's Unicode version.
void append_by_utf8proc(std::string& result, std::string_view text, NormalizerKind form) {
  utf8proc_uint8_t* mapped = nullptr;
  const auto length = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
      static_cast<utf8proc_ssize_t>(text.size()),
      &mapped,
      utf8proc_options(form));
  check(length >= 0, "normalising text: ", utf8proc_errmsg(length));
  result.append(reinterpret_cast<const char*>(mapped), static_cast<size_t>(length));
  std::free(mapped);
}

/// Whether every normal form leaves all of `text` as it is: compatibility forms change
/// characters from U+00A0 on, decomposition from U+00C0, composition from U+0300.
bool is_plain(std::string_view text, NormalizerKind form) {
  const unsigned char limit = form == NormalizerKind::nfc ? 0xCC : 0x80;
  return std::all_of(text.begin(), text.end(), [limit](char byte) {
    return static_cast<unsigned char>(byte) < limit;
  });
}

/// A normal form with the tables of Unicode 9.0: newer characters stand alone.
std::string normal_form(std::string_view text, NormalizerKind form) {
  if (is_plain(text, form)) {
    return std::string(text);
  }
  static const auto newer = unicode_ranges("newer").value();
  std::string result;
  size_t begin = 0;
  for (size_t position = 0; position < text.size();) {
    const auto step = next_utf8(text.substr(position));
    const bool stays = !step.valid || contains(newer, step.code_point);
    if (stays) {
      append_by_utf8proc(result, text.substr(begin, position - begin), form);
      result.append(text, position, step.length);
      begin = position + step.length;
    }
    position += step.length;
  }
  append_by_utf8proc(result, text.substr(begin), form);
  return result;
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (size_t begin = 0;;) {
    const size_t found = text.find(from, begin);
    result.append(text, begin, found - begin);
    if (found == std::string_view::npos) {
      return result;
    }
    result += to;
    begin = found + from.size();
  }
}

std::string replace_matches(std::string_view text, const Regex& regex, std::string_view to) {
  std::string result;
  while (!text.empty()) {
    const auto valid = text.substr(0, valid_utf8_prefix(text));
    size_t end = 0;
    regex.for_each_match(valid, [&](size_t match, size_t match_end) {
      result.append(valid, end, match - end);
      result += to;
      end = match_end;
    });
    result.append(valid, end);
    text.remove_prefix(valid.size());
    if (!text.empty()) {
      result.push_back(text[0]);
      text.remove_prefix(1);
    }
  }
  return result;
}

std::string stripped(std::string_view text, bool left, bool right) {
  const auto is_space = [](const Utf8Step& step) {
    return step.valid && character_class(step.code_point) == CharacterClass::space;
  };
  while (left && !text.empty() && is_space(next_utf8(text))) {
    text.remove_prefix(next_utf8(text).length);
  }
  while (right && !text.empty()) {
    size_t last = text.size() - 1;
    while (last > 0 && (static_cast<uint8_t>(text[last]) & 0xC0) == 0x80) {
      --last;
    }
    if (!is_space(next_utf8(text.substr(last)))) {
      break;
    }
    text.remove_suffix(text.size() - last);
  }
  return std::string(text);
}

} // namespace

struct Normalizer::Step {
  NormalizerStep definition;
  std::optional<Regex> regex;

  std::string apply(std::string text) const {
    switch (definition.kind) {
      case NormalizerKind::prepend:
        return text.empty() ? text : definition.content + text;
      case NormalizerKind::strip:
        return stripped(text, definition.left, definition.right);
      case NormalizerKind::replace:
        return regex ? replace_matches(text, *regex, definition.content)
                     : replace_all(text, definition.pattern.text, definition.content);
      default:
        return normal_form(text, definition.kind);
    }
  }
};

Normalizer::Normalizer(const std::vector<NormalizerStep>& steps) {
  for (const auto& step : steps) {
    steps_.push_back({step, std::nullopt});
    if (step.kind == NormalizerKind::replace && step.pattern.is_regex) {
      steps_.back().regex.emplace(step.pattern.text);
    }
  }
}

Normalizer::~Normalizer() = default;

bool Normalizer::empty() const {
  return steps_.empty();
}

std::string Normalizer::apply(std::string_view text) const {
  std::string result(text);
  for (const auto& step : steps_) {
    result = step.apply(std::move(result));
  }
  return result;
}

} // namespace moe
