#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string_view>

namespace moe {

/// A regular expression over Unicode text, in the syntax and with the Unicode version of
/// Hugging Face's tokenizers, run by PCRE2. Characters that the expression does not tell apart
/// are one symbol for the engine, so that it needs no Unicode tables. Immutable; threads may
/// share it.
class Regex {
 public:
  /// Throws `Error` that names the expression and what is not supported.
  explicit Regex(std::string_view expression);

  /// Calls `visit(begin, end)` with the byte offsets of each match in `text`, which must be
  /// valid UTF-8, from left to right without overlaps. Throws `Error` when the engine gives up.
  void for_each_match(
      std::string_view text, const std::function<void(size_t, size_t)>& visit) const;

 private:
  struct Impl;
  std::shared_ptr<const Impl> impl_;
};

} // namespace moe
