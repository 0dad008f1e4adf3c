#include "moe/evaluation/token_preferences.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

namespace moe {
namespace {

/// The ids that occur often enough, and how often.
struct FrequentTokens {
  std::vector<int32_t> ids;
  std::vector<int64_t> occurrences;
  std::unordered_map<int32_t, size_t> index;
};

FrequentTokens frequent_tokens(const RoutingRecord& record, int64_t min_occurrences) {
  std::unordered_map<int32_t, int64_t> counts;
  for (const int32_t id : record.ids) {
    ++counts[id];
  }
  FrequentTokens tokens;
  for (const auto& [id, count] : counts) {
    if (count >= min_occurrences) {
      tokens.index[id] = tokens.ids.size();
      tokens.ids.push_back(id);
      tokens.occurrences.push_back(count);
    }
  }
  return tokens;
}

/// How often each of the tokens chose each expert: [tokens, E].
std::vector<int64_t> choices(
    const RoutingRecord& record, const RecordedLayer& layer, const FrequentTokens& tokens) {
  std::vector<int64_t> counts(tokens.ids.size() * static_cast<size_t>(layer.num_experts));
  const auto per_token = static_cast<size_t>(layer.experts_per_token);
  for (size_t t = 0; t < record.ids.size(); ++t) {
    const auto place = tokens.index.find(record.ids[t]);
    if (place == tokens.index.end()) {
      continue;
    }
    int64_t* const row = counts.data() + place->second * static_cast<size_t>(layer.num_experts);
    for (size_t k = 0; k < per_token; ++k) {
      const int32_t expert = layer.experts[t * per_token + k];
      if (expert >= 0) {
        ++row[expert];
      }
    }
  }
  return counts;
}

bool is_liked_more(const TokenPreference& a, const TokenPreference& b) {
  return std::tuple(-a.lift, -a.chosen, a.id) < std::tuple(-b.lift, -b.chosen, b.id);
}

} // namespace

std::vector<std::vector<TokenPreference>> token_preferences(
    const RoutingRecord& record,
    const RecordedLayer& layer,
    int64_t min_occurrences,
    int64_t limit) {
  const auto tokens = frequent_tokens(record, min_occurrences);
  const auto counts = choices(record, layer, tokens);
  const auto totals = choices_by_expert(layer);
  const auto num_tokens = static_cast<double>(record.num_tokens());
  std::vector<std::vector<TokenPreference>> result(totals.size());
  for (size_t expert = 0; expert < totals.size(); ++expert) {
    auto& liked = result[expert];
    const double base = static_cast<double>(totals[expert]) / num_tokens;
    for (size_t i = 0; i < tokens.ids.size(); ++i) {
      const int64_t chosen = counts[i * totals.size() + expert];
      const double rate =
          static_cast<double>(chosen) / static_cast<double>(tokens.occurrences[i]);
      if (chosen > 0 && rate > base) {
        liked.push_back({tokens.ids[i], chosen, tokens.occurrences[i], rate / base});
      }
    }
    const auto kept = std::min(liked.size(), static_cast<size_t>(limit));
    const auto end = liked.begin() + static_cast<std::ptrdiff_t>(kept);
    std::partial_sort(liked.begin(), end, liked.end(), is_liked_more);
    liked.erase(end, liked.end());
  }
  return result;
}

} // namespace moe
