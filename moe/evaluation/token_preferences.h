#pragma once

#include <cstdint>
#include <vector>

#include "moe/evaluation/routing_record.h"

namespace moe {

/// A token that an expert gets more often than chance.
struct TokenPreference {
  int32_t id = 0;
  int64_t chosen = 0;      ///< times that the token chose the expert
  int64_t occurrences = 0; ///< times that it occurs
  /// P(expert | token) / P(expert): how many times more often than any token.
  double lift = 1.0;
};

/// For each expert of a layer the `limit` tokens of highest lift, more frequent ones first
/// among equals. Only tokens that occur `min_occurrences` times, so that lift is no accident,
/// and have a lift above 1.
std::vector<std::vector<TokenPreference>> token_preferences(
    const RoutingRecord& record,
    const RecordedLayer& layer,
    int64_t min_occurrences,
    int64_t limit);

} // namespace moe
