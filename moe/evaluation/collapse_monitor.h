#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "moe/evaluation/routing_collapse.h"
#include "moe/evaluation/routing_statistics.h"

namespace moe {

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
/// - Where experts come back by themselves, as a balancing loss makes them do while loads have
///   not settled, one is dead only after it has been away for four times as long as they are.
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
    double steps = 0.0;     ///< that `activity` is of
    double activity = 0.0;  ///< share of the steps before the quiet ones with a load
    double recent = 0.5;    ///< average of the last loads, none of which counts for more
    int64_t away_steps = 0; ///< up to now, in which that was low
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
    double away_steps = 0.0;  ///< recent ones of experts that had been away for a while
    double returns = 0.0;     ///< of them, in these steps
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
  /// Whether the layer's experts do not come back by themselves, or this one does not as they
  /// do.
  static bool is_overdue(const Layer& layer, const Expert& expert);
  /// Takes in the rows of each expert.
  static void update_layer(
      int64_t step, const std::vector<double>& rows, double all_rows, Layer& layer);
  /// Takes in the load of one expert: whether it is alive, and who comes back.
  static void update_returns(double load, Expert& expert, Layer& layer);
  /// Takes in the rows of one expert; `even` are those of an even load.
  static void update_expert(int64_t step, double rows, double even, Expert& expert);
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
