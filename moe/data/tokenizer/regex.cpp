#include "moe/data/tokenizer/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "moe/data/tokenizer/regex_syntax.h"
#include "moe/data/utf8.h"
#include "moe/error.h"
#include "moe/files/quote_internal.h"

namespace moe {
namespace regex_parts {

constexpr char32_t kNumCodePoints = 0x110000;

/// Which characters a regular expression tells apart: all of one symbol are in the same sets.
class Alphabet {
 public:
  explicit Alphabet(const std::vector<RegexPart>& parts) : symbol_(kNumCodePoints) {
    // The line break is always alone and its own symbol: "^" and "$" go by it.
    sets_.resize(parts.size());
    std::map<std::vector<uint16_t>, uint8_t> symbols;
    std::vector<char32_t> borders = {0, '\n', '\n' + 1};
    for (const auto& part : parts) {
      for (const auto& [first, last] : part.characters) {
        borders.push_back(first);
        borders.push_back(last + 1);
      }
    }
    std::sort(borders.begin(), borders.end());
    borders.erase(std::unique(borders.begin(), borders.end()), borders.end());
    for (size_t i = 0; i < borders.size() && borders[i] < kNumCodePoints; ++i) {
      const char32_t end = i + 1 < borders.size() ? borders[i + 1] : kNumCodePoints;
      std::vector<uint16_t> membership;
      for (size_t part = 0; part < parts.size(); ++part) {
        if (contains(parts[part].characters, borders[i])) {
          membership.push_back(static_cast<uint16_t>(part));
        }
      }
      const uint8_t symbol = borders[i] == '\n' ? '\n' : symbol_of(membership, symbols);
      for (const uint16_t part : membership) {
        sets_[part].push_back(symbol);
      }
      std::fill(symbol_.begin() + borders[i], symbol_.begin() + end, symbol);
    }
  }

  uint8_t operator[](char32_t code_point) const {
    return symbol_[code_point];
  }

  /// The symbols of the set that `parts[part]` is, as a class for the engine.
  std::string engine_class(size_t part) const {
    auto symbols = sets_[part];
    std::sort(symbols.begin(), symbols.end());
    symbols.erase(std::unique(symbols.begin(), symbols.end()), symbols.end());
    std::string text = "[";
    for (const uint8_t symbol : symbols) {
      constexpr const char* kDigits = "0123456789abcdef";
      text += {'\\', 'x', kDigits[symbol >> 4], kDigits[symbol & 15]};
    }
    return text + "]";
  }

 private:
  uint8_t symbol_of(
      const std::vector<uint16_t>& membership,
      std::map<std::vector<uint16_t>, uint8_t>& symbols) {
    const auto found = symbols.find(membership);
    if (found != symbols.end()) {
      return found->second;
    }
    check(next_ < 256, "tells more than 255 kinds of characters apart; not supported");
    const auto symbol = static_cast<uint8_t>(next_);
    next_ += next_ + 1 == '\n' ? 2 : 1;
    symbols.emplace(membership, symbol);
    return symbol;
  }

  std::vector<uint8_t> symbol_;
  std::vector<std::vector<uint8_t>> sets_; ///< by part
  int next_ = 0;
};

struct FreeCode {
  void operator()(pcre2_code* code) const {
    pcre2_code_free(code);
  }
};
struct FreeMatch {
  void operator()(pcre2_match_data* data) const {
    pcre2_match_data_free(data);
  }
};

using Code = std::unique_ptr<pcre2_code, FreeCode>;

inline Code compile(const std::string& pattern) {
  int error = 0;
  size_t offset = 0;
  Code code(pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(pattern.data()),
      pattern.size(),
      PCRE2_MULTILINE,
      &error,
      &offset,
      nullptr));
  if (!code) {
    char message[256] = "";
    pcre2_get_error_message(error, reinterpret_cast<PCRE2_UCHAR*>(message), sizeof(message));
    fail(message);
  }
  pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE); // where there is none, it is interpreted
  return code;
}

/// Byte offsets of ascending character positions.
class Offsets {
 public:
  Offsets(std::string_view text, bool is_ascii) : text_(text), is_ascii_(is_ascii) {}

  size_t operator()(size_t position) {
    if (is_ascii_) {
      return position;
    }
    for (; position_ < position; ++position_) {
      ++byte_;
      while (byte_ < text_.size() && (static_cast<uint8_t>(text_[byte_]) & 0xC0) == 0x80) {
        ++byte_;
      }
    }
    return byte_;
  }

 private:
  std::string_view text_;
  bool is_ascii_;
  size_t position_ = 0;
  size_t byte_ = 0;
};

} // namespace regex_parts

using namespace regex_parts;

struct Regex::Impl {
  explicit Impl(std::string_view expression)
      : parts(parse_regex(expression)), alphabet(parts), name(quote(expression)) {
    std::string pattern;
    for (size_t i = 0; i < parts.size(); ++i) {
      pattern += parts[i].characters.empty() ? parts[i].syntax : alphabet.engine_class(i);
    }
    code = compile(pattern);
    parts.clear();
  }

  std::string symbols(std::string_view text) const {
    std::string result;
    result.reserve(text.size());
    while (!text.empty()) {
      const auto byte = static_cast<uint8_t>(text[0]);
      const auto step = byte < 0x80 ? Utf8Step{byte, 1, true} : next_utf8(text);
      result.push_back(static_cast<char>(alphabet[step.code_point]));
      text.remove_prefix(step.length);
    }
    return result;
  }

  std::vector<RegexPart> parts;
  Alphabet alphabet;
  std::string name;
  Code code;
};

Regex::Regex(std::string_view expression) {
  try {
    impl_ = std::make_shared<Impl>(expression);
  } catch (const Error& error) {
    fail("the regular expression ", quote(expression), ": ", error.what());
  }
}

void Regex::for_each_match(
    std::string_view text, const std::function<void(size_t, size_t)>& visit) const {
  const auto symbols = impl_->symbols(text);
  Offsets byte_offset(text, symbols.size() == text.size());
  const std::unique_ptr<pcre2_match_data, FreeMatch> match(
      pcre2_match_data_create_from_pattern(impl_->code.get(), nullptr));
  check(match != nullptr, "no memory for matching");
  for (size_t position = 0; position <= symbols.size();) {
    const auto find = [&](uint32_t options) {
      return pcre2_match(
          impl_->code.get(),
          reinterpret_cast<PCRE2_SPTR>(symbols.data()),
          symbols.size(),
          position,
          options,
          match.get(),
          nullptr);
    };
    int result = find(0);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) {
      result = find(PCRE2_NO_JIT);
    }
    if (result == PCRE2_ERROR_NOMATCH) {
      return;
    }
    check(result >= 0, "the regular expression ", impl_->name, " takes too long on this text");
    const size_t* bounds = pcre2_get_ovector_pointer(match.get());
    const size_t begin = bounds[0];
    const size_t end = bounds[1];
    const size_t begin_byte = byte_offset(begin);
    visit(begin_byte, byte_offset(end));
    position = end > begin ? end : end + 1;
  }
}

} // namespace moe
