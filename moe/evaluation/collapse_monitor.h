#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "moe/evaluation/routing_statistics.h"

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

/// What `CollapseMonitor::update` found.
struct CollapseNews {
  std::vector<Collapse> began;
  std::vector<Collapse> recovered; ///< `since_step` is that of the collapse that is over
};

/// Finds collapses of the routing in the statistics of every step, as they come or from
/// `metrics.jsonl` afterwards: its state is a function of what it was given.
///
/// - An expert is dead when over at least 32 steps, in which an even load were 100 rows or
///   more, it got less than 1 % of that, the fullest step left out. An expert that is often
///   without load, such as one for a rare domain, must be so for longer than is to be expected
///   of it. Experts of a layer that die within 16 steps are reported together.
/// - An expert is alive again when its load, averaged over about 8 steps, is 10 % of the mean.
/// - The other two kinds must hold for 32 steps of an average over about 4 steps.
///
/// Example:
/// ```
/// CollapseMonitor monitor(options.experts_per_token);
/// for (const Collapse& collapse : monitor.update(metrics.step, metrics.moe).began) {
///   log(describe(collapse));
/// }
/// ```
class CollapseMonitor {
 public:
  /// `experts_per_token` is K.
  explicit CollapseMonitor(int64_t experts_per_token);

  /// Takes in the statistics of `step`, one per MoE layer; steps come in rising order.
  CollapseNews update(int64_t step, const std::vector<LayerRouting>& layers);

  /// What began and is not over, by layer.
  std::vector<Collapse> current() const;

  /// Judges these experts of a layer anew from the next step on, as they were revived.
  void restart(int64_t layer, const std::vector<int64_t>& experts);

 private:
  /// Steps with next to no rows for an expert; loads are in units of the mean load.
  struct Quiet {
    int64_t since = 0;
    int64_t steps = 0;    ///< up to now; 0 for none
    double active = 0.0;  ///< of them, steps with a load
    double rows = 0.0;    ///< in them, without the fullest
    double fullest = 0.0; ///< rows in the fullest
    double even = 0.0;    ///< rows that an even load were in them
  };
  struct Expert {
    double steps = 0.0;    ///< that `activity` is of
    double activity = 0.0; ///< share of the steps before the quiet ones with a load
    double recent = 0.5;   ///< average of the last loads, none of which counts for more
    Quiet quiet;
    int64_t dead_steps = 0;   ///< since it was found dead; 0 for alive
    bool is_reported = false; ///< as dead
  };
  /// What must hold for some time.
  struct Condition {
    Collapse collapse;
    int64_t steps = 0; ///< of which it holds, up to now
    bool is_reported = false;
  };
  struct Layer {
    std::vector<Expert> experts;
    std::vector<double> load; ///< average of the last steps
    double confidence = 0.0;  ///< average of the last steps
    Condition few;
    Condition saturated;
  };

  /// The mean activity of a layer's experts, as far as it is known.
  static double usual_activity(const Layer& layer);
  /// Takes in that of `steps` steps `active` ones had a load.
  static void remember(Expert& expert, double active, double steps);
  /// Whether the quiet steps are more than to be expected.
  static bool is_surprising(const Expert& expert, double usually_active);
  /// `even` are the rows of an even load.
  static void update_expert(
      int64_t step, double rows, double even, double usually_active, Expert& expert);
  static void report_experts(int64_t number, Layer& layer, CollapseNews& news);
  static void update_condition(
      const Collapse& now, bool begins, bool ends, Condition& condition, CollapseNews& news);
  void update_conditions(
      int64_t step, const LayerRouting& routing, Layer& layer, CollapseNews& news) const;
  std::vector<int64_t> fullest_experts(const Layer& layer) const;

  int64_t experts_per_token_;
  std::map<int64_t, Layer> layers_;
};

} // namespace moe
