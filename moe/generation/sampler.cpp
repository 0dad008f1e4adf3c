#include "moe/generation/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moe/error.h"

namespace moe {
namespace {

void penalize(std::span<float> logits, std::span<const int32_t> history, double penalty) {
  if (penalty == 1.0) {
    return;
  }
  std::vector<int32_t> seen(history.begin(), history.end());
  std::sort(seen.begin(), seen.end());
  seen.erase(std::unique(seen.begin(), seen.end()), seen.end());
  const auto vocab_size = static_cast<int64_t>(logits.size());
  for (const int32_t id : seen) {
    check(
        id >= 0 && id < vocab_size,
        "sampler: token ",
        id,
        " in the history is not one of the ",
        vocab_size,
        " logits");
  }
  for (const int32_t id : seen) {
    const double logit = logits[id];
    logits[id] = static_cast<float>(logit > 0.0 ? logit / penalty : logit * penalty);
  }
}

} // namespace

Sampler::Sampler(const SamplerOptions& options)
    : options_(options), state_(static_cast<uint64_t>(options.seed)) {
  validate(options);
}

/// SplitMix64 (Steele et al., 2014): a number in [0, 1).
double Sampler::uniform() {
  state_ += 0x9e3779b97f4a7c15ULL;
  uint64_t bits = state_;
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9ULL;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebULL;
  bits ^= bits >> 31;
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

int32_t Sampler::sample(std::span<float> logits, std::span<const int32_t> history) {
  check(!logits.empty(), "sampler: there are no logits");
  for (const float logit : logits) {
    check(!std::isnan(logit), "sampler: the model computed a logit that is not a number");
  }
  penalize(logits, history, options_.repetition_penalty);
  const auto best = std::max_element(logits.begin(), logits.end());
  check(std::isfinite(*best), "sampler: the highest logit is ", *best);
  if (options_.temperature == 0.0) {
    return static_cast<int32_t>(best - logits.begin());
  }
  const auto vocab_size = static_cast<int64_t>(logits.size());
  const int64_t kept = options_.top_k > 0 ? std::min(options_.top_k, vocab_size) : vocab_size;
  candidates_.resize(logits.size());
  std::iota(candidates_.begin(), candidates_.end(), 0);
  const auto more_likely = [&](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::partial_sort(
      candidates_.begin(), candidates_.begin() + kept, candidates_.end(), more_likely);
  std::vector<double> odds(kept); // relative to the most likely token
  const double highest = logits[candidates_[0]];
  for (int64_t i = 0; i < kept; ++i) {
    odds[i] = std::exp((logits[candidates_[i]] - highest) / options_.temperature);
  }
  const double all = std::accumulate(odds.begin(), odds.end(), 0.0);
  int64_t nucleus = 0;
  double mass = 0.0;
  while (nucleus < kept && (nucleus == 0 || mass < options_.top_p * all) &&
         odds[nucleus] >= options_.min_p) {
    mass += odds[nucleus++];
  }
  double left = uniform() * mass;
  for (int64_t i = 0; i < nucleus; ++i) {
    left -= odds[i];
    if (left < 0.0) {
      return candidates_[i];
    }
  }
  return candidates_[nucleus - 1];
}

} // namespace moe
