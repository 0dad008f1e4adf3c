#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace moe {

/// What can go wrong with the routing of a layer.
enum class CollapseKind {
  dead_experts, ///< some experts get less than 1 % of the mean load
  few_experts,  ///< K experts get nearly everything: the others less than 10 % of their share
  saturated_router, ///< the router puts all its confidence into one expert and learns no more
};

/// `dead_experts`, ...
std::string to_string(CollapseKind kind);

/// The kind of this name; throws `Error` for another.
CollapseKind collapse_kind(const std::string& name);

/// A collapse of the routing in one layer.
struct Collapse {
  CollapseKind kind = CollapseKind::dead_experts;
  int64_t layer = 0;
  int64_t num_experts = 0; ///< E
  /// In rising order: the dead ones, or the few that get nearly everything.
  std::vector<int64_t> experts;
  /// The first step of which this holds.
  int64_t since_step = 0;

  bool operator==(const Collapse&) const = default;
};

/// In words: which layer, which experts, and since when; one line without a period.
std::string summary(const Collapse& collapse);

/// The summary and what to do.
std::string describe(const Collapse& collapse);

/// In words that it is over.
std::string describe_recovery(const Collapse& collapse);

} // namespace moe
