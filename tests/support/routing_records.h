#pragma once

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "moe/evaluation/routing_record.h"

namespace moe::testing {

/// A record of one layer: `documents` documents in each domain, each of `pieces` pieces of
/// `length` tokens with ids below 50. `choose` gives the K distinct experts of a token from its
/// domain, its document and a generator.
using Chooser = std::function<std::vector<int32_t>(int64_t, int64_t, std::mt19937_64&)>;

inline RoutingRecord routing_record(
    int64_t domains,
    int64_t documents,
    int64_t pieces,
    int64_t length,
    int64_t num_experts,
    const Chooser& choose,
    uint64_t seed = 1) {
  std::mt19937_64 random(seed);
  RoutingRecord record;
  record.layers.resize(1);
  auto& layer = record.layers[0];
  layer.num_experts = num_experts;
  for (int64_t domain = 0; domain < domains; ++domain) {
    record.domains.push_back("domain" + std::to_string(domain));
    for (int64_t i = 0; i < documents * pieces; ++i) {
      const int64_t document = i / pieces;
      const int64_t begin = record.num_tokens();
      for (int64_t t = 0; t < length; ++t) {
        record.ids.push_back(static_cast<int32_t>(random() % 50));
        const auto experts = choose(domain, document, random);
        layer.experts_per_token = static_cast<int64_t>(experts.size());
        layer.experts.insert(layer.experts.end(), experts.begin(), experts.end());
        layer.weights.insert(
            layer.weights.end(), experts.size(), 1.0F / static_cast<float>(experts.size()));
      }
      record.pieces.push_back({domain, document, begin, record.num_tokens()});
    }
  }
  return record;
}

/// `count` distinct experts, each as likely as the others.
inline std::vector<int32_t> any_experts(
    int64_t num_experts, int64_t count, std::mt19937_64& random) {
  std::vector<int32_t> experts;
  while (static_cast<int64_t>(experts.size()) < count) {
    const auto expert = static_cast<int32_t>(random() % static_cast<uint64_t>(num_experts));
    if (std::find(experts.begin(), experts.end(), expert) == experts.end()) {
      experts.push_back(expert);
    }
  }
  return experts;
}

} // namespace moe::testing
