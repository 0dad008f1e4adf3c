#include "moe/generation/token_work_internal.h"
#include "moe/kernels/cpu_activation.h"

namespace moe::token_loop {

void Work::plan(size_t layer, int64_t count, Scratch& own) {
  const auto norm = 2 * static_cast<int64_t>(layer) + 1;
  if (own.planned_for != norm) {
    own.planned_for = norm;
    make_routing_plan(router, model.layers[layer], count, router_logits.data(), own.plan);
  }
}

/// Some experts' logits of all tokens; the last task is the gate of the shared expert.
void Work::route_rows(const PackedLayer& layer, int64_t task, int64_t count, Scratch& own) {
  const int64_t experts = sizes.options.num_experts;
  const int64_t rows = panel_rows(layer.router.row_bytes(), experts);
  const bool is_gate = task == ceil_div(experts, rows);
  const auto panel = is_gate ? Panel{experts, 1} : panel_of(task, rows, experts);
  const float* const bias = is_gate ? nullptr : data_or_null(layer.router_bias);
  for (int64_t t = 0; t < count; ++t) {
    float* const out = router_logits.data() + t * (experts + 1) + panel.first;
    multiply_rows(
        is_gate ? layer.shared_expert_gate : layer.router,
        is_gate ? 0 : panel.first,
        panel.count,
        own.normed[t],
        out);
    add_bias(bias, panel.first, panel.count, out);
  }
}

void Work::run_feed_forward(size_t layer, int64_t count, Scratch& own) {
  const auto& weights = model.layers[layer];
  const auto norm = 2 * static_cast<int64_t>(layer) + 1;
  if (weights.router.rows > 0) {
    const int64_t rows = panel_rows(weights.router.row_bytes(), sizes.options.num_experts);
    const int64_t gates = weights.shared_expert_gate.rows;
    counters.run(
        stage_of(layer, route),
        ceil_div(sizes.options.num_experts, rows) + gates,
        [&] { normalize(norm, count, own); },
        [&](int64_t task) { route_rows(weights, task, count, own); });
  }
  // Only with a task of the stage is a thread sure that the logits are those of this layer; so
  // the number of tasks must not depend on the plan. Every thread makes the same one: cheaper
  // than to wait for it.
  const auto prepared = [&] {
    normalize(norm, count, own);
    plan(layer, count, own);
  };
  const int64_t dim = sizes.options.model_dim;
  const int64_t width = std::max(weights.experts.width, weights.shared_expert.width);
  const int64_t features = panel_rows(2 * weights.experts.up.row_bytes(), width);
  const int64_t panels = ceil_div(width, features);
  const int64_t members = members_of(weights, sizes.options);
  counters.run(
      stage_of(layer, expert_up), count * members * panels, prepared, [&](int64_t task) {
        const int64_t group = task / panels;
        if (group < static_cast<int64_t>(own.plan.groups.size())) {
          compute_hidden(own.plan.groups[group], task % panels * features, features, own);
        }
      });
  // A task reads some rows of every member's matrix: more than other tasks, because short
  // pieces are read slowly, but no more than leave two tasks for each thread.
  const int64_t share = 4 * ceil_div(dim, 8 * static_cast<int64_t>(scratch.size()));
  const int64_t rows =
      std::min(share, panel_rows(members * weights.experts.down.row_bytes() / 2, dim));
  counters.run(
      stage_of(layer, expert_down),
      ceil_div(dim, rows),
      [&] {
        plan(layer, count, own);
        for (size_t m = 0; m < own.plan.members.size(); ++m) {
          const auto i = static_cast<int64_t>(m);
          own.hidden.pack_from(i, model.type, hidden.at(i), own.plan.members[m].network->width);
        }
      },
      [&](int64_t task) { add_results(panel_of(task, rows, dim), own); });
}

/// Up to `features` hidden features from `first` on of the members of a group.
void Work::compute_hidden(
    const PlanGroup& group, int64_t first, int64_t features, Scratch& own) {
  for (int64_t m = group.first; m < group.first + group.count; ++m) {
    const auto& member = own.plan.members[m];
    const auto& network = *member.network;
    const Panel panel{first, std::min(features, network.width - first)};
    if (panel.count <= 0) {
      return;
    }
    const auto& vector = own.normed[member.token];
    const bool gated = network.form.gated;
    const int64_t row = member.expert * (gated ? 2 : 1) * network.width + panel.first;
    const float* const bias = data_or_null(network.up_bias);
    multiply_rows(network.up, row, panel.count, vector, own.gate.data());
    add_bias(bias, row, panel.count, own.gate.data());
    if (gated) {
      multiply_rows(network.up, row + network.width, panel.count, vector, own.up.data());
      add_bias(bias, row + network.width, panel.count, own.up.data());
    }
    cpu::activation_forward(
        network.form,
        /*width=*/1,
        /*lanes=*/panel.count,
        {own.gate.data(), own.up.data(), ones.data(), hidden.at(m) + panel.first});
  }
}

/// Adds some features of all networks' results to the residuals.
void Work::add_results(Panel panel, Scratch& own) {
  for (size_t m = 0; m < own.plan.members.size(); ++m) {
    const auto& member = own.plan.members[m];
    const int64_t row = member.expert * sizes.options.model_dim + panel.first;
    multiply_rows(
        member.network->down,
        row,
        panel.count,
        own.hidden[static_cast<int64_t>(m)],
        own.result.data());
    add_bias(data_or_null(member.network->down_bias), row, panel.count, own.result.data());
    const float weight = sizes.residual_multiplier * member.weight;
    float* const to = residual.at(member.token) + panel.first;
    for (int64_t i = 0; i < panel.count; ++i) {
      to[i] += weight * own.result[i];
    }
  }
}

} // namespace moe::token_loop
