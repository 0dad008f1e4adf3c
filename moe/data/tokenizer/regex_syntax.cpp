#include "moe/data/tokenizer/regex_syntax.h"

#include <algorithm>
#include <charconv>

#include "moe/data/utf8.h"
#include "moe/error.h"

namespace moe {
namespace {

using Ranges = std::vector<CodePointRange>;

Ranges joined(Ranges ranges) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) {
    return a.first < b.first;
  });
  Ranges result;
  for (const auto& range : ranges) {
    if (!result.empty() && range.first <= result.back().last + 1) {
      result.back().last = std::max(result.back().last, range.last);
    } else {
      result.push_back(range);
    }
  }
  return result;
}

class RegexParser {
 public:
  explicit RegexParser(std::string_view regex) : rest_(regex) {}

  std::vector<RegexPart> parse() {
    while (!rest_.empty()) {
      parse_one();
    }
    check(groups_.empty(), "a group is not closed");
    return std::move(parts_);
  }

 private:
  char peek(size_t i = 0) const {
    return i < rest_.size() ? rest_[i] : '\0';
  }

  bool take(std::string_view text) {
    if (rest_.substr(0, text.size()) != text) {
      return false;
    }
    rest_.remove_prefix(text.size());
    return true;
  }

  char32_t next_character() {
    check(!rest_.empty(), "ends too early");
    const auto step = next_utf8(rest_);
    check(step.valid, "is not UTF-8");
    rest_.remove_prefix(step.length);
    return step.code_point;
  }

  void add_syntax(std::string text) {
    parts_.push_back({{}, std::move(text)});
  }

  void add_set(Ranges ranges) {
    if (ignore_case_) {
      ranges = with_other_case(std::move(ranges));
    }
    if (ranges.empty()) {
      add_syntax("(?!)");
    } else {
      parts_.push_back({std::move(ranges), ""});
    }
  }

  void parse_one() {
    const char c = peek();
    if (c == '\\') {
      parse_escape();
    } else if (c == '[') {
      rest_.remove_prefix(1);
      add_set(parse_class());
    } else if (c == '(') {
      parse_group();
    } else if (c == ')') {
      check(!groups_.empty(), "\")\" without \"(\"");
      ignore_case_ = groups_.back();
      groups_.pop_back();
      add_syntax(std::string(1, c));
      rest_.remove_prefix(1);
    } else if (c == '{') {
      parse_repetition();
    } else if (c == '.') {
      rest_.remove_prefix(1);
      add_set({{0, '\n' - 1}, {'\n' + 1, 0x10FFFF}});
    } else if (std::string_view("|*+?^$").find(c) != std::string_view::npos) {
      add_syntax(std::string(1, c));
      rest_.remove_prefix(1);
    } else {
      add_set(single(next_character()));
    }
  }

  Ranges single(char32_t character) const {
    check(
        character < 0x80 || !ignore_case_,
        "a character beyond ASCII where case is ignored is not supported");
    return {{character, character}};
  }

  void parse_escape() {
    if (take("\\A") || take("\\z")) {
      add_syntax(std::string("\\") + *(rest_.data() - 1));
      return;
    }
    rest_.remove_prefix(1);
    add_set(parse_escaped_set());
  }

  void parse_group() {
    groups_.push_back(ignore_case_);
    for (const char* start : {"(?:", "(?=", "(?!", "(?<=", "(?<!", "(?>"}) {
      if (take(start)) {
        add_syntax(start);
        return;
      }
    }
    if (take("(?i:")) {
      ignore_case_ = true;
      add_syntax("(?:");
    } else if (take("(?i)")) {
      groups_.pop_back();
      ignore_case_ = true;
    } else {
      check(peek(1) != '?' && peek(1) != '*', "\"", rest_.substr(0, 4), "\" is not supported");
      rest_.remove_prefix(1);
      add_syntax("(?:");
    }
  }

  /// `{2}`, `{2,}`, `{2,3}`, `{,3}`.
  void parse_repetition() {
    const auto end = rest_.find('}');
    check(end != std::string_view::npos, "\"{\" without \"}\"");
    const auto inside = rest_.substr(1, end - 1);
    const bool is_plain = !inside.empty() && inside != "," &&
                          inside.find_first_not_of("0123456789,") == std::string_view::npos &&
                          std::count(inside.begin(), inside.end(), ',') <= 1;
    check(is_plain, "\"{", inside, "}\" is no repetition");
    rest_.remove_prefix(end + 1);
    check(
        peek() != '+' && peek() != '?',
        "\"{",
        inside,
        "}",
        peek(),
        "\" means something else in every engine; not supported");
    add_syntax(std::string(inside[0] == ',' ? "{0" : "{").append(inside).append("}"));
  }

  /// What follows a backslash.
  Ranges parse_escaped_set() {
    const auto c = next_character();
    switch (c) {
      case 'p':
      case 'P':
        return parse_property(c == 'P');
      case 's':
        return table("space");
      case 'S':
        return complement(table("space"));
      case 'd':
        return table("Nd");
      case 'D':
        return complement(table("Nd"));
      default:
        return single(escaped_character(c));
    }
  }

  static Ranges table(std::string_view name) {
    auto ranges = unicode_ranges(name);
    const bool is_internal = name.size() > 3 && name != "space";
    check(ranges && !is_internal, "\"\\p{", name, "}\" is not a supported property");
    return *std::move(ranges);
  }

  Ranges parse_property(bool negated) {
    check(peek() == '{', "\"\\p\" without \"{\"");
    const auto end = rest_.find('}');
    check(end != std::string_view::npos, "\"\\p{\" without \"}\"");
    auto name = rest_.substr(1, end - 1);
    if (!name.empty() && name[0] == '^') {
      negated = !negated;
      name.remove_prefix(1);
    }
    auto ranges = table(name);
    rest_.remove_prefix(end + 1);
    return negated ? complement(ranges) : ranges;
  }

  char32_t escaped_character(char32_t c) {
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'u':
        return parse_hex(4);
      case 'x':
        if (take("{")) {
          const auto end = std::min(rest_.find('}'), rest_.size());
          const auto code_point = parse_hex(end);
          check(take("}"), "\"\\x{\" without \"}\"");
          return code_point;
        }
        return parse_hex(2);
      default:
        break;
    }
    const bool is_word =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
    if (is_word) {
      std::string shown;
      append_utf8(shown, c);
      fail("\"\\", shown, "\" is not supported");
    }
    return c;
  }

  char32_t parse_hex(size_t digits) {
    uint32_t value = 0;
    const auto text = rest_.substr(0, digits);
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value, 16);
    const bool is_good = error == std::errc() && stop == end && text.size() == digits &&
                         value < 0x110000 && (value < 0xD800 || value > 0xDFFF);
    check(is_good, "\"", text, "\" is no code point");
    rest_.remove_prefix(digits);
    return value;
  }

  /// What follows `[`, up to and with `]`.
  Ranges parse_class() {
    const bool negated = take("^");
    check(peek() != ']', "an empty class is not supported");
    Ranges ranges;
    while (!take("]")) {
      check(!rest_.empty(), "a class is not closed");
      check(
          peek() != '[' && rest_.substr(0, 2) != "&&",
          "\"",
          rest_.substr(0, 2),
          "\" in a class is not supported");
      auto item = parse_class_item();
      if (peek() == '-' && peek(1) != ']' && peek(1) != '\0') {
        rest_.remove_prefix(1);
        const auto last = parse_class_item();
        check(
            item.size() == 1 && last.size() == 1 && item[0].first == item[0].last &&
                last[0].first == last[0].last && item[0].first <= last[0].first,
            "a range in a class does not go from one character to a later one");
        item[0].last = last[0].last;
      }
      ranges.insert(ranges.end(), item.begin(), item.end());
    }
    ranges = joined(std::move(ranges));
    if (ignore_case_) {
      ranges = with_other_case(std::move(ranges));
    }
    return negated ? complement(ranges) : ranges;
  }

  Ranges parse_class_item() {
    if (take("\\")) {
      return parse_escaped_set();
    }
    return single(next_character());
  }

  /// With the other case of ASCII letters, and the two letters beyond that are equal to one of
  /// them when case is ignored. Properties are taken as they are.
  static Ranges with_other_case(Ranges ranges) {
    Ranges result = ranges;
    for (char32_t lower = 'a'; lower <= 'z'; ++lower) {
      const char32_t upper = lower - 'a' + 'A';
      const char32_t other = lower == 's' ? 0x17F : lower == 'k' ? 0x212A : lower;
      if (contains(ranges, lower) || contains(ranges, upper) || contains(ranges, other)) {
        result.push_back({lower, lower});
        result.push_back({upper, upper});
        result.push_back({other, other});
      }
    }
    return joined(std::move(result));
  }

  std::string_view rest_;
  bool ignore_case_ = false;
  std::vector<bool> groups_; ///< whether case was ignored around each open group
  std::vector<RegexPart> parts_;
};

} // namespace

std::vector<RegexPart> parse_regex(std::string_view regex) {
  return RegexParser(regex).parse();
}

} // namespace moe
