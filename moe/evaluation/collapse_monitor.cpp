#include "moe/evaluation/collapse_monitor.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "moe/error.h"

namespace moe {
namespace {

/// Steps that a collapse must last before it is one.
constexpr int64_t kSteps = 32;
/// Steps that a report waits for experts that seem to be dying, too.
constexpr int64_t kWait = 16;
/// Rows of an even load from which none at all says something, as tokens come in clusters.
constexpr double kRows = 100.0;
/// In units of the mean load.
constexpr double kDead = 0.01;
constexpr double kQuiet = 0.05;
constexpr double kAlive = 0.1;
/// No step counts for more in an expert's recent load: one noisy batch does not revive it.
constexpr double kMostRecent = 0.5;
/// Steps of memory for what is usual, for an expert's return, and for a whole layer.
constexpr double kUsualSteps = 1000.0;
constexpr double kRecentSteps = 8.0;
constexpr double kLayerSteps = 4.0;
/// Of quiet steps: minus the logarithm of the chance that an expert, active as often as it
/// usually is, has that many.
constexpr double kSurprise = 20.0;
/// Steps from which on an expert that is not alive is away, and up to which it says how long
/// experts are: one that stays away for good says nothing of those that come back.
constexpr int64_t kAwayBegin = 8;
constexpr int64_t kAwayEnd = 96;
/// Taken as seen before the first step, so that a few returns are not yet a rule.
constexpr double kAwayBefore = 150.0;
constexpr double kReturnsBefore = 1.0;
/// Steps of memory for returns.
constexpr double kReturnSteps = 200.0;
/// Experts that are away for no more steps on average come back by themselves; without a
/// balancing loss it takes them longer.
constexpr double kSoon = 40.0;
/// How many times as long as on average one of them may be away.
constexpr double kOverdue = 4.0;
/// Nobody is active for sure.
constexpr double kMostActive = 0.999;
/// Load of the experts outside of the K fullest, as a share of what they had at an even load.
constexpr double kFewBegin = 0.1;
constexpr double kFewEnd = 0.2;
constexpr double kSaturatedBegin = 0.99;
constexpr double kSaturatedEnd = 0.98;

void approach(double& average, double value, double steps) {
  average += (value - average) / steps;
}

void add_expert(Collapse& collapse, int64_t expert, int64_t since) {
  collapse.since_step = collapse.experts.empty() ? since : std::min(collapse.since_step, since);
  collapse.experts.push_back(expert);
}

} // namespace

CollapseMonitor::CollapseMonitor(int64_t experts_per_token)
    : experts_per_token_(experts_per_token) {}

CollapseNews CollapseMonitor::update(int64_t step, const std::vector<LayerRouting>& layers) {
  CollapseNews news;
  for (const LayerRouting& routing : layers) {
    const auto count = routing.load.size();
    // With one expert, or all of them for every token, there is no choice to go wrong.
    if (routing.rows == 0 || static_cast<int64_t>(count) <= experts_per_token_) {
      continue;
    }
    Layer& layer = layers_[routing.layer];
    if (layer.experts.size() != count) {
      layer = Layer();
      layer.experts.resize(count);
      layer.load.assign(count, 1.0 / static_cast<double>(count));
    }
    // Whole rows, so that rounded shares from a file give the same state.
    std::vector<double> rows(count);
    std::transform(routing.load.begin(), routing.load.end(), rows.begin(), [&](double share) {
      return std::round(share * static_cast<double>(routing.rows));
    });
    update_layer(step, rows, static_cast<double>(routing.rows), layer);
    report_experts(routing.layer, layer, news);
    update_conditions(step, routing, layer, news);
  }
  return news;
}

void CollapseMonitor::update_layer(
    int64_t step, const std::vector<double>& rows, double all_rows, Layer& layer) {
  const double even = all_rows / static_cast<double>(rows.size());
  const double usually_active = usual_activity(layer);
  layer.away_steps -= layer.away_steps / kReturnSteps;
  layer.returns -= layer.returns / kReturnSteps;
  for (size_t i = 0; i < rows.size(); ++i) {
    update_returns(rows[i] / even, layer.experts[i], layer);
    approach(layer.load[i], rows[i] / all_rows, kLayerSteps);
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    Expert& expert = layer.experts[i];
    update_expert(step, rows[i], even, expert);
    if (expert.dead_steps == 0 && expert.quiet.steps >= kSteps && expert.quiet.even >= kRows &&
        is_surprising(expert, usually_active) && is_overdue(layer, expert)) {
      expert.dead_steps = 1;
    }
  }
}

void CollapseMonitor::update_returns(double load, Expert& expert, Layer& layer) {
  approach(expert.recent, std::min(load, kMostRecent), kRecentSteps);
  const bool is_back = expert.recent >= kAlive;
  if (expert.away_steps >= kAwayBegin && expert.away_steps < kAwayEnd) {
    layer.away_steps += 1.0;
    layer.returns += is_back ? 1.0 : 0.0;
  }
  expert.away_steps = is_back ? 0 : expert.away_steps + 1;
}

bool CollapseMonitor::is_overdue(const Layer& layer, const Expert& expert) {
  const double usual = (layer.away_steps + kAwayBefore) / (layer.returns + kReturnsBefore);
  const auto steps = static_cast<double>(expert.away_steps - kAwayBegin);
  return usual > kSoon || steps > kOverdue * usual;
}

double CollapseMonitor::usual_activity(const Layer& layer) {
  double steps = 0.0;
  double active = 0.0;
  for (const Expert& expert : layer.experts) {
    steps += expert.steps;
    active += expert.steps * expert.activity;
  }
  return steps > 0.0 ? active / steps : 1.0;
}

void CollapseMonitor::remember(Expert& expert, double active, double steps) {
  expert.steps = std::min(expert.steps + steps, std::max(kUsualSteps, steps));
  expert.activity += (active - steps * expert.activity) / expert.steps;
}

bool CollapseMonitor::is_surprising(const Expert& expert, double usually_active) {
  // Of an expert that was seen for but a few steps, the others tell more.
  const double known = expert.steps / (expert.steps + kSteps);
  const double activity =
      std::min(known * expert.activity + (1.0 - known) * usually_active, kMostActive);
  const auto steps = static_cast<double>(expert.quiet.steps);
  // The fullest step may have been an active one, any of them.
  return -(steps - 1.0) * std::log(1.0 - activity) - std::log(std::max(steps * activity, 1.0)) >
         kSurprise;
}

void CollapseMonitor::update_expert(int64_t step, double rows, double even, Expert& expert) {
  const double load = rows / even;
  const bool is_active = load >= kQuiet;
  if (expert.dead_steps > 0) {
    ++expert.dead_steps;
    if (!expert.is_reported && load >= kMostRecent) {
      expert.quiet = Quiet();
      expert.dead_steps = 0;
    }
    return;
  }
  Quiet quiet = expert.quiet;
  quiet.since = quiet.steps == 0 ? step : quiet.since;
  ++quiet.steps;
  quiet.active += is_active ? 1.0 : 0.0;
  quiet.rows += std::min(rows, quiet.fullest);
  quiet.fullest = std::max(rows, quiet.fullest);
  quiet.even += even;
  const bool goes_on = quiet.steps == 1 ? !is_active : quiet.rows <= kDead * quiet.even;
  if (!goes_on) {
    remember(expert, quiet.active, static_cast<double>(quiet.steps));
    expert.quiet = Quiet();
    return;
  }
  expert.quiet = quiet;
}

void CollapseMonitor::report_experts(int64_t number, Layer& layer, CollapseNews& news) {
  Collapse died;
  died.layer = number;
  died.num_experts = static_cast<int64_t>(layer.experts.size());
  Collapse recovered = died;
  bool is_due = false;
  bool others_are_dying = false;
  for (const Expert& expert : layer.experts) {
    is_due = is_due || (!expert.is_reported && expert.dead_steps > kWait);
    others_are_dying =
        others_are_dying || (expert.dead_steps == 0 && expert.quiet.steps >= kSteps - kWait);
  }
  for (int64_t i = 0; i < died.num_experts; ++i) {
    Expert& expert = layer.experts[static_cast<size_t>(i)];
    if (expert.dead_steps == 0) {
      continue;
    }
    if (expert.recent >= kAlive) {
      if (expert.is_reported) {
        add_expert(recovered, i, expert.quiet.since);
      }
      expert.quiet = Quiet();
      expert.dead_steps = 0;
      expert.is_reported = false;
    } else if (!expert.is_reported && (is_due || !others_are_dying)) {
      expert.is_reported = true;
      add_expert(died, i, expert.quiet.since);
    }
  }
  if (!died.experts.empty()) {
    news.began.push_back(died);
  }
  if (!recovered.experts.empty()) {
    news.recovered.push_back(recovered);
  }
}

std::vector<int64_t> CollapseMonitor::fullest_experts(const Layer& layer) const {
  std::vector<int64_t> experts(layer.load.size());
  std::iota(experts.begin(), experts.end(), 0);
  std::stable_sort(experts.begin(), experts.end(), [&](int64_t a, int64_t b) {
    return layer.load[static_cast<size_t>(a)] > layer.load[static_cast<size_t>(b)];
  });
  experts.resize(static_cast<size_t>(experts_per_token_));
  std::sort(experts.begin(), experts.end());
  return experts;
}

void CollapseMonitor::update_condition(
    const Collapse& now, bool begins, bool ends, Condition& condition, CollapseNews& news) {
  if (condition.is_reported) {
    if (ends) {
      news.recovered.push_back(condition.collapse);
      condition = Condition();
    }
    return;
  }
  if (!begins) {
    condition.steps = 0;
    return;
  }
  ++condition.steps;
  const int64_t since = condition.steps == 1 ? now.since_step : condition.collapse.since_step;
  condition.collapse = now;
  condition.collapse.since_step = since;
  if (condition.steps == kSteps) {
    condition.is_reported = true;
    news.began.push_back(condition.collapse);
  }
}

void CollapseMonitor::update_conditions(
    int64_t step, const LayerRouting& routing, Layer& layer, CollapseNews& news) const {
  approach(layer.confidence, routing.confidence, kLayerSteps);
  const auto count = static_cast<double>(layer.load.size());
  const double chosen = static_cast<double>(experts_per_token_);
  Collapse now;
  now.layer = routing.layer;
  now.num_experts = static_cast<int64_t>(layer.load.size());
  now.since_step = step;

  now.kind = CollapseKind::saturated_router;
  update_condition(
      now,
      layer.confidence > kSaturatedBegin,
      layer.confidence < kSaturatedEnd,
      layer.saturated,
      news);

  now.kind = CollapseKind::few_experts;
  now.experts = fullest_experts(layer);
  double others = 1.0;
  for (const int64_t expert : now.experts) {
    others -= layer.load[static_cast<size_t>(expert)];
  }
  others /= 1.0 - chosen / count;
  // Where most of the others are dead, that says it all.
  const auto dead =
      std::count_if(layer.experts.begin(), layer.experts.end(), [](const Expert& expert) {
        return expert.dead_steps > 0;
      });
  const bool begins = others < kFewBegin && static_cast<double>(2 * dead) < count - chosen;
  update_condition(now, begins, others > kFewEnd, layer.few, news);
}

std::vector<Collapse> CollapseMonitor::current() const {
  std::vector<Collapse> collapses;
  for (const auto& [number, layer] : layers_) {
    Collapse dead;
    dead.layer = number;
    dead.num_experts = static_cast<int64_t>(layer.experts.size());
    for (size_t i = 0; i < layer.experts.size(); ++i) {
      const Expert& expert = layer.experts[i];
      if (expert.is_reported) {
        add_expert(dead, static_cast<int64_t>(i), expert.quiet.since);
      }
    }
    if (!dead.experts.empty()) {
      collapses.push_back(dead);
    }
    for (const Condition* condition : {&layer.few, &layer.saturated}) {
      if (condition->is_reported) {
        collapses.push_back(condition->collapse);
      }
    }
  }
  return collapses;
}

void CollapseMonitor::restart(int64_t layer, const std::vector<int64_t>& experts) {
  const auto found = layers_.find(layer);
  if (found == layers_.end()) {
    return;
  }
  auto& records = found->second.experts;
  for (const int64_t expert : experts) {
    check(
        expert >= 0 && expert < static_cast<int64_t>(records.size()),
        "layer ",
        layer,
        " has no expert ",
        expert);
    records[static_cast<size_t>(expert)] = Expert();
  }
  found->second.few = Condition();
}

} // namespace moe
