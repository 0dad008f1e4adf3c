#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "moe/generation/sampler_options.h"

namespace moe {

/// Chooses the next token from logits. The same seed and logits give the same tokens on every
/// machine.
///
/// 1. The logits of tokens in `history` are divided by `repetition_penalty` if positive,
/// multiplied
///    otherwise (Keskar et al., arXiv 1909.05858).
/// 2. At temperature 0 the highest logit wins, the lowest id among equals.
/// 3. Logits are divided by the temperature; only the `top_k` highest stay.
/// 4. Of these, the most likely that together reach `top_p` stay (Holtzman et al., arXiv
///    1904.09751), and of those all that are at least `min_p` times as likely as the first.
/// 5. One is drawn in proportion to what is left.
class Sampler {
 public:
  /// Throws `Error` if the options are impossible.
  explicit Sampler(const SamplerOptions& options);

  /// `logits` [V], changed in place. Throws `Error` when one of them is not a number, or when a
  /// penalty is to be taken of a token in `history` that they do not have.
  int32_t sample(std::span<float> logits, std::span<const int32_t> history);

 private:
  double uniform();

  SamplerOptions options_;
  uint64_t state_;
  std::vector<int32_t> candidates_;
};

} // namespace moe
