#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// Reads `NAME=WEIGHT` entries into one weight per domain. No entries give no weights: the
/// mixture is by size. Throws `Error` for an unknown domain, a domain without a weight, a
/// weight that is negative or not finite, and for no positive weight at all.
std::vector<double> parse_mixture(
    const std::vector<std::string>& entries, const std::vector<std::string>& domains);

/// Assigns the rows 0, 1, 2, ... of a training run to domains in proportion to weights.
///
/// Rows are dealt out in blocks: each block holds an exact quota of every domain in a
/// pseudo-random order of its own. The block is the smallest that meets the weights within
/// 0.1 %, so six even domains give each six rows one of every domain.
class Mixture {
 public:
  /// `weights`: one per domain, not negative, of any sum above 0. A positive weight gets at
  /// least one row per block.
  Mixture(const std::vector<double>& weights, int64_t seed);

  /// A row's domain and how many rows of that domain come before it.
  struct Place {
    int64_t domain;
    int64_t index;
  };
  Place place(int64_t row) const;

  int64_t block_size() const {
    return quota_ends_.back();
  }

 private:
  std::vector<int64_t> quota_ends_; // [domains]: cumulative quotas
  uint64_t seed_;
};

} // namespace moe
