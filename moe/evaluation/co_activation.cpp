#include "moe/evaluation/co_activation.h"

#include <cmath>
#include <numeric>

namespace moe {
namespace {

std::vector<int64_t> count_pairs(const RecordedLayer& layer) {
  const auto num_experts = static_cast<size_t>(layer.num_experts);
  const auto per_token = static_cast<size_t>(layer.experts_per_token);
  std::vector<int64_t> pairs(num_experts * num_experts);
  for (size_t begin = 0; begin < layer.experts.size(); begin += per_token) {
    for (size_t i = begin; i < begin + per_token; ++i) {
      for (size_t j = begin; j < begin + per_token; ++j) {
        const auto a = layer.experts[i];
        const auto b = layer.experts[j];
        if (a >= 0 && b >= 0 && a != b) {
          ++pairs[static_cast<size_t>(a) * num_experts + static_cast<size_t>(b)];
        }
      }
    }
  }
  return pairs;
}

/// x with x_a · (sum of the other x) = partners_a.
std::vector<double> independent_factors(const std::vector<double>& partners) {
  const double total = std::accumulate(partners.begin(), partners.end(), 0.0);
  std::vector<double> x;
  for (const double count : partners) {
    x.push_back(total > 0.0 ? count / std::sqrt(total) : 0.0);
  }
  for (int round = 0; round < 1000; ++round) {
    double sum = std::accumulate(x.begin(), x.end(), 0.0);
    double change = 0.0;
    for (size_t a = 0; a < x.size(); ++a) {
      const double others = sum - x[a];
      // The geometric mean of old and new: without it the steps swing to and fro.
      const double next = others > 0.0 ? std::sqrt(x[a] * partners[a] / others) : 0.0;
      change = std::max(change, std::abs(next - x[a]));
      sum += next - x[a];
      x[a] = next;
    }
    if (change <= 1e-9 * sum) {
      break;
    }
  }
  return x;
}

} // namespace

double CoActivation::log_ratio(int64_t a, int64_t b) const {
  const auto place = static_cast<size_t>(a * num_experts + b);
  return std::log2((static_cast<double>(pairs[place]) + 0.5) / (expected[place] + 0.5));
}

CoActivation co_activation(const RecordedLayer& layer) {
  CoActivation result;
  result.num_experts = layer.num_experts;
  result.pairs = count_pairs(layer);
  const auto size = static_cast<size_t>(layer.num_experts);
  std::vector<double> partners(size);
  for (size_t i = 0; i < result.pairs.size(); ++i) {
    partners[i / size] += static_cast<double>(result.pairs[i]);
  }
  const auto x = independent_factors(partners);
  result.expected.resize(size * size);
  for (size_t a = 0; a < size; ++a) {
    for (size_t b = 0; b < size; ++b) {
      result.expected[a * size + b] = a == b ? 0.0 : x[a] * x[b];
    }
  }
  return result;
}

} // namespace moe
