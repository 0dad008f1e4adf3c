#include "moe/evaluation/routing_collapse.h"

#include <sstream>

#include "moe/error.h"

namespace moe {
namespace {

// `3`, `3 and 5`, `0-3, 7 and 9-12`.
std::string list_of(const std::vector<int64_t>& numbers) {
  std::vector<std::string> parts;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) {
      ++last;
    }
    // Two in a row are two.
    last = last == i + 1 ? i : last;
    parts.push_back(std::to_string(numbers[i]));
    if (last > i) {
      parts.back() += '-';
      parts.back() += std::to_string(numbers[last]);
    }
    i = last + 1;
  }
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  }
  return text;
}

std::string experts_of(const Collapse& collapse) {
  return (collapse.experts.size() == 1 ? "expert " : "experts ") + list_of(collapse.experts);
}

} // namespace

std::string to_string(CollapseKind kind) {
  switch (kind) {
    case CollapseKind::dead_experts:
      return "dead_experts";
    case CollapseKind::few_experts:
      return "few_experts";
    case CollapseKind::saturated_router:
      return "saturated_router";
  }
  fail("there is no such kind of collapse");
}

CollapseKind collapse_kind(const std::string& name) {
  for (const auto kind :
       {CollapseKind::dead_experts,
        CollapseKind::few_experts,
        CollapseKind::saturated_router}) {
    if (to_string(kind) == name) {
      return kind;
    }
  }
  fail("collapse: there is no kind '", name, "'");
}

std::string summary(const Collapse& collapse) {
  const auto count = collapse.experts.size();
  const std::string verb = count == 1 ? "gets" : "get";
  std::ostringstream text;
  text << "layer " << collapse.layer << ": ";
  switch (collapse.kind) {
    case CollapseKind::dead_experts:
      text << experts_of(collapse) << " (" << count << " of " << collapse.num_experts << ") "
           << verb << " less than 1 % of the mean load";
      break;
    case CollapseKind::few_experts:
      text << experts_of(collapse) << " of " << collapse.num_experts << " " << verb
           << " nearly all tokens";
      break;
    case CollapseKind::saturated_router:
      text << "the router puts more than 99 % of its confidence into one expert per token";
      break;
  }
  text << " since step " << collapse.since_step;
  return text.str();
}

std::string describe(const Collapse& collapse) {
  const std::string advice =
      collapse.kind == CollapseKind::saturated_router
          ? "it hardly learns any more; a higher --router-z-weight or a lower "
            "--router-lr-ratio "
            "prevents it"
          : "what they could hold is lost; --resume with --on-collapse rebalance revives them, "
            "a higher --load-balancing-weight or a lower --router-lr-ratio prevents it";
  return summary(collapse) + ": " + advice;
}

std::string describe_recovery(const Collapse& collapse) {
  std::ostringstream text;
  text << "layer " << collapse.layer << ": ";
  switch (collapse.kind) {
    case CollapseKind::dead_experts:
      text << experts_of(collapse) << (collapse.experts.size() == 1 ? " has" : " have")
           << " a load again";
      break;
    case CollapseKind::few_experts:
      text << "all experts have a load again";
      break;
    case CollapseKind::saturated_router:
      text << "the router is no longer saturated";
      break;
  }
  return text.str();
}

} // namespace moe
