#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>

namespace moe {

/// Remembers the paragraphs of a text, so that what another text repeats of them can be left
/// out: in a translation, the parts that nobody has translated yet.
class KnownParagraphs {
 public:
  void add(std::string_view text);

  /// `text` without the paragraphs of which at least half of all runs of four words (or, for
  /// shorter ones, all words) were added before.
  std::string without_known(std::string_view text) const;

 private:
  bool is_known(std::string_view paragraph) const;

  std::unordered_set<uint64_t> runs_;
};

} // namespace moe
