#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "moe/data/tokenizer/tokenizer_definition.h"

namespace moe {

/// Changes text before it is cut, as the steps of a `tokenizer.json` say. Bytes that are no
/// UTF-8 stay as they are. Immutable; threads may share it.
class Normalizer {
 public:
  /// Throws `Error` when a regular expression is not supported.
  explicit Normalizer(const std::vector<NormalizerStep>& steps);
  ~Normalizer();

  bool empty() const;

  std::string apply(std::string_view text) const;

 private:
  struct Step;
  std::vector<Step> steps_;
};

} // namespace moe
