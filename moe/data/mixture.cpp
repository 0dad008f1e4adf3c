#include "moe/data/mixture.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "moe/data/permutation.h"
#include "moe/error.h"
#include "moe/join_words_internal.h"

namespace moe {
namespace {

constexpr int64_t kLargestTunedBlock = 4096;
constexpr int64_t kFallbackBlock = 1 << 20;
constexpr double kShareTolerance = 1e-3;
constexpr uint64_t kMixtureKey = 0x6d697874757265; // "mixture"

double parse_weight(const std::string& entry, std::string_view text) {
  double weight = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), weight);
  check(
      error == std::errc() && end == text.data() + text.size() && std::isfinite(weight) &&
          weight >= 0,
      "mix: '",
      entry,
      "' is not NAME=WEIGHT with a number of at least 0");
  return weight;
}

/// Rows of each domain in a block, by largest remainder; at least one for a positive share.
std::vector<int64_t> quotas_of(const std::vector<double>& shares, int64_t block) {
  std::vector<int64_t> quotas;
  for (const double share : shares) {
    const auto floor = static_cast<int64_t>(share * static_cast<double>(block));
    quotas.push_back(share > 0 ? std::max<int64_t>(floor, 1) : 0);
  }
  const auto surplus = [&](size_t i) {
    return static_cast<double>(quotas[i]) - shares[i] * static_cast<double>(block);
  };
  const auto neediest = [&](size_t a, size_t b) { return surplus(a) < surplus(b); };
  std::vector<size_t> domains(shares.size());
  std::iota(domains.begin(), domains.end(), size_t{0});
  int64_t missing = block - std::accumulate(quotas.begin(), quotas.end(), int64_t{0});
  for (; missing > 0; --missing) {
    ++quotas[*std::min_element(domains.begin(), domains.end(), neediest)];
  }
  for (; missing < 0; ++missing) {
    --quotas[*std::max_element(domains.begin(), domains.end(), neediest)];
  }
  return quotas;
}

bool meets(
    const std::vector<int64_t>& quotas, const std::vector<double>& shares, int64_t block) {
  for (size_t i = 0; i < shares.size(); ++i) {
    const double wanted = shares[i] * static_cast<double>(block);
    if (std::abs(static_cast<double>(quotas[i]) - wanted) > kShareTolerance * wanted) {
      return false;
    }
  }
  return true;
}

} // namespace

std::vector<double> parse_mixture(
    const std::vector<std::string>& entries, const std::vector<std::string>& domains) {
  if (entries.empty()) {
    return {};
  }
  std::vector<double> weights(domains.size(), -1);
  for (const auto& entry : entries) {
    const auto equals = entry.find('=');
    check(equals != std::string::npos, "mix: '", entry, "' is not NAME=WEIGHT");
    const auto name = entry.substr(0, equals);
    const auto domain = std::find(domains.begin(), domains.end(), name);
    check(
        domain != domains.end(),
        "mix: no data is named '",
        name,
        "'; the domains are ",
        join_words(domains));
    double& weight = weights[static_cast<size_t>(domain - domains.begin())];
    check(weight < 0, "mix: '", name, "' has two weights");
    weight = parse_weight(entry, std::string_view(entry).substr(equals + 1));
  }
  for (size_t i = 0; i < domains.size(); ++i) {
    check(
        weights[i] >= 0,
        "mix: '",
        domains[i],
        "' has no weight; give all domains one (0 leaves a domain out) or none");
  }
  check(
      std::any_of(weights.begin(), weights.end(), [](double weight) { return weight > 0; }),
      "mix: all weights are 0; give at least one domain more");
  return weights;
}

Mixture::Mixture(const std::vector<double>& weights, int64_t seed)
    : seed_(static_cast<uint64_t>(seed)) {
  double sum = 0;
  int64_t used = 0;
  for (const double weight : weights) {
    check(
        std::isfinite(weight) && weight >= 0, "mixture: weight ", weight, " is not at least 0");
    sum += weight;
    used += weight > 0 ? 1 : 0;
  }
  check(
      std::isfinite(sum) && sum > 0,
      "mixture: the weights' sum is ",
      sum,
      "; it must be above 0 and finite");
  check(used <= kFallbackBlock, "mixture: ", used, " domains are more than ", kFallbackBlock);
  std::vector<double> shares;
  for (const double weight : weights) {
    shares.push_back(weight / sum);
  }
  int64_t block = used;
  while (block <= kLargestTunedBlock && !meets(quotas_of(shares, block), shares, block)) {
    ++block;
  }
  quota_ends_ = quotas_of(shares, block <= kLargestTunedBlock ? block : kFallbackBlock);
  std::partial_sum(quota_ends_.begin(), quota_ends_.end(), quota_ends_.begin());
}

Mixture::Place Mixture::place(int64_t row) const {
  const int64_t block = row / block_size();
  const auto key = mix_bits({seed_, kMixtureKey, static_cast<uint64_t>(block)});
  const int64_t slot = permute(row % block_size(), block_size(), key);
  const auto end = std::upper_bound(quota_ends_.begin(), quota_ends_.end(), slot);
  const int64_t begin = end == quota_ends_.begin() ? 0 : *(end - 1);
  return {end - quota_ends_.begin(), block * (*end - begin) + slot - begin};
}

} // namespace moe
