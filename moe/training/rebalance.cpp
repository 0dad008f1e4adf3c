#include "moe/training/rebalance.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <array>
#include <limits>
#include <sstream>
#include <string>
#include <utility>

#include "moe/evaluation/eval_mode_guard.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

/// Of the root mean square of the weights.
constexpr double kCopyNoise = 0.01;
constexpr double kRidge = 0.01;
constexpr int kPowerSteps = 4;
constexpr int kSplitSteps = 20;
/// Multiples of the gap between chosen experts, tried for M.
constexpr std::array<double, 9> kMargins = {0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0};
/// By how much of M/2 both rows are lowered, tried: where h fits badly, less is better.
constexpr std::array<double, 3> kLowered = {1.0, 0.5, 0.0};
/// In logits.
constexpr double kSmallestGap = 0.5;
constexpr int64_t kFewestInputs = 16;
/// Each half must get at least this share of the donor's rows.
constexpr double kSmallestShare = 0.2;

/// Ridge regression on `rows` [T, D].
class LinearFit {
 public:
  explicit LinearFit(torch::Tensor rows) : rows_(std::move(rows)) {
    auto gram = rows_.t().mm(rows_); // [D, D]
    gram.diagonal().add_(gram.diagonal().mean() * kRidge);
    factor_ = torch::linalg_cholesky(gram);
  }

  /// w [D] with rows · w near `targets` [T].
  torch::Tensor operator()(const torch::Tensor& targets) const {
    const auto sums = rows_.t().mv(targets).unsqueeze(1); // [D, 1]
    return torch::cholesky_solve(sums, factor_).squeeze(1);
  }

 private:
  torch::Tensor rows_;
  torch::Tensor factor_;
};

/// A direction in which the halves of `rows` [T, D] are near +1 and -1: [D].
torch::Tensor split_direction(
    const torch::Tensor& rows, const LinearFit& fit, const torch::Generator& generator) {
  const auto centered = rows - rows.mean(0);
  auto direction = torch::randn({rows.size(1)}, generator, torch::kFloat32).to(rows.options());
  for (int i = 0; i < kPowerSteps; ++i) {
    direction = centered.t().mv(centered.mv(direction));
    direction = direction / direction.norm();
  }
  for (int i = 0; i < kSplitSteps; ++i) {
    const auto positions = rows.mv(direction);
    const auto is_above = positions > positions.median();
    direction = fit(torch::where(is_above, 1.0, -1.0).to(rows.scalar_type()));
  }
  return direction;
}

/// The router's rows [E, D], with its biases as the last column [E, D + 1] if it has them.
torch::Tensor rows_with_bias(const TopKRouter& router) {
  return router->bias.defined() ? torch::cat({router->weight, router->bias.unsqueeze(1)}, 1)
                                : router->weight.clone();
}

void set_router_row(const TopKRouter& router, int64_t expert, const torch::Tensor& row) {
  const int64_t width = router->weight.size(1);
  router->weight[expert].copy_(row.slice(/*dim=*/0, 0, width));
  if (router->bias.defined()) {
    router->bias[expert].copy_(row[width]);
  }
}

/// How far apart the logits of `expert` and of the last expert that is chosen beside it are:
/// the median over tokens, which all have `expert` among their K in `routing`. The half of an
/// expert that is not meant must fall by about that much to give way.
double typical_gap(const Routing& routing, int64_t expert) {
  if (routing.experts.size(1) == 1) {
    return kSmallestGap;
  }
  const auto chosen = routing.logits.gather(/*dim=*/1, routing.experts); // [T, K]
  const auto companions =
      chosen.masked_fill(routing.experts == expert, std::numeric_limits<double>::infinity());
  const auto gaps = routing.logits.select(/*dim=*/1, expert) - companions.amin(/*dim=*/1);
  return std::max(kSmallestGap, gaps.abs().median().item<double>());
}

/// The busiest expert that is not in `excluded`; if possible, where the router chooses by
/// groups, of the group of `expert`.
int64_t find_donor(
    const std::vector<int64_t>& counts,
    const std::vector<int64_t>& excluded,
    int64_t expert,
    int64_t group_size) {
  const auto busiest = [&](bool in_group) {
    int64_t donor = -1;
    for (int64_t i = 0; i < static_cast<int64_t>(counts.size()); ++i) {
      const bool is_possible = (!in_group || i / group_size == expert / group_size) &&
                               std::find(excluded.begin(), excluded.end(), i) == excluded.end();
      if (is_possible && counts[i] > (donor < 0 ? 0 : counts[donor])) {
        donor = i;
      }
    }
    return donor;
  };
  const int64_t donor = busiest(/*in_group=*/true);
  return donor >= 0 ? donor : busiest(/*in_group=*/false);
}

/// Moves the router's rows of `donor` and `copy`, which have the same weights, apart: by the
/// rows of `inputs` that `donor` gets, and so that the output for `unseen` stays what it is.
void split_tokens(
    SparseMoEBlock& block,
    int64_t donor,
    int64_t copy,
    const torch::Tensor& inputs,
    const torch::Tensor& unseen,
    const torch::Generator& generator) {
  auto& router = block->router;
  const auto before = block->forward_with_routing(unseen);
  const auto routing = router(inputs);
  const auto own = (routing.experts == donor).any(1).nonzero().squeeze(1); // [N]
  auto rows = inputs.index_select(0, own);                                 // [N, D]
  const double gap = typical_gap(select_tokens(routing, own), donor);
  if (router->bias.defined()) {
    rows = torch::constant_pad_nd(rows, {0, 1}, /*value=*/1.0);
  }
  const auto row = rows_with_bias(router)[donor].clone();
  const LinearFit fit(rows);
  const auto apart = split_direction(rows, fit, generator);
  const auto down = fit(torch::ones({rows.size(0)}, rows.options()));
  double least = std::numeric_limits<double>::infinity();
  torch::Tensor best_donor_row;
  torch::Tensor best_copy_row;
  for (const double margin : kMargins) {
    for (const double lowered : kLowered) {
      const double half = 0.5 * margin * gap;
      const auto donor_row = row + (apart - down * lowered) * half;
      const auto copy_row = row - (apart + down * lowered) * half;
      set_router_row(router, donor, donor_row);
      set_router_row(router, copy, copy_row);
      const auto after = block->forward_with_routing(unseen);
      const auto counts = counts_on_host(expert_counts(after.routing));
      const auto all = static_cast<double>(counts[donor] + counts[copy]);
      const bool is_shared =
          static_cast<double>(std::min(counts[donor], counts[copy])) >= kSmallestShare * all;
      // A split that leaves one of them without tokens is the last resort.
      const double change = (after.output - before.output).square().sum().item<double>() +
                            (is_shared ? 0.0 : before.output.square().sum().item<double>());
      if (change < least) {
        least = change;
        best_donor_row = donor_row;
        best_copy_row = copy_row;
      }
    }
  }
  set_router_row(router, donor, best_donor_row);
  set_router_row(router, copy, best_copy_row);
}

/// The stacked parameters of the experts and those of the router, by their name in the block.
std::vector<std::pair<std::string, torch::Tensor>> rows_by_expert(SparseMoEBlock& block) {
  auto parameters = block->named_parameters(/*recurse=*/false).pairs();
  for (const auto& entry : block->router->named_parameters()) {
    parameters.emplace_back("router." + entry.key(), entry.value());
  }
  return parameters;
}

void copy_expert(
    SparseMoEBlock& block, int64_t donor, int64_t copy, const torch::Generator& generator) {
  for (const auto& entry : block->named_parameters(/*recurse=*/false)) {
    const auto source = entry.value()[donor];
    const auto noise = torch::randn(source.sizes(), generator, torch::kFloat32).to(source);
    const auto scale = source.square().mean().sqrt() * kCopyNoise;
    entry.value()[copy].copy_(source + noise * scale);
  }
  if (block->router->noise_weight.defined()) {
    block->router->noise_weight[copy].copy_(block->router->noise_weight[donor]);
  }
  if (block->router->selection_bias.defined()) {
    block->router->selection_bias[copy].copy_(block->router->selection_bias[donor]);
  }
}

void check_dead(const std::vector<int64_t>& dead, int64_t num_experts) {
  for (size_t i = 0; i < dead.size(); ++i) {
    TORCH_CHECK(
        dead[i] >= 0 && dead[i] < num_experts,
        "revive_experts: expert ",
        dead[i],
        " is not in [0, num_experts = ",
        num_experts,
        ")");
    TORCH_CHECK(
        std::find(dead.begin(), dead.begin() + static_cast<int64_t>(i), dead[i]) ==
            dead.begin() + static_cast<int64_t>(i),
        "revive_experts: expert ",
        dead[i],
        " is there twice");
  }
}

void split_moments(
    SparseMoEBlock& block, AdamW& optimizer, int64_t layer, int64_t donor, int64_t copy) {
  const auto prefix = "layers." + std::to_string(layer) + ".moe.";
  for (const auto& [name, parameter] : rows_by_expert(block)) {
    for (const auto& slot : optimizer.slots()) {
      if (slot.name == prefix + name) {
        slot.exp_avg[copy].copy_(slot.exp_avg[donor].mul_(0.5));
        slot.exp_avg_sq[copy].copy_(slot.exp_avg_sq[donor].mul_(0.25));
      }
    }
  }
}

} // namespace

bool can_revive(const TopKRouterOptions& router) {
  return router.form().gate == RouterGate::linear &&
         router.form().selection != RouterSelection::hash &&
         router.form().selection != RouterSelection::expert_choice;
}

bool can_revive(const Collapse& collapse) {
  return collapse.kind != CollapseKind::saturated_router;
}

std::vector<int64_t> experts_to_revive(
    const Collapse& collapse, const std::vector<LayerRouting>& layers) {
  if (collapse.kind == CollapseKind::dead_experts) {
    return collapse.experts;
  }
  std::vector<int64_t> experts;
  for (const LayerRouting& layer : layers) {
    for (int64_t i = 0; layer.layer == collapse.layer && i < collapse.num_experts; ++i) {
      const double load = layer.load[static_cast<size_t>(i)];
      if (load * static_cast<double>(collapse.num_experts) < 0.1) {
        experts.push_back(i);
      }
    }
  }
  return experts;
}

Revival revive_experts(
    SparseMoEBlock block,
    AdamW& optimizer,
    int64_t layer,
    const std::vector<int64_t>& dead,
    const torch::Tensor& inputs,
    uint64_t seed) {
  const torch::NoGradGuard no_grad;
  TORCH_CHECK(
      inputs.dim() == 2 && inputs.size(0) >= kFewestInputs,
      "revive_experts: at least ",
      kFewestInputs,
      " inputs [T, D] are needed, got ",
      inputs.sizes());
  TORCH_CHECK(
      can_revive(block->router->options),
      "revive_experts: the router's choice does not follow from rows of its weight");
  check_dead(dead, block->router->options.num_experts());
  const EvalModeGuard eval_mode(*block);
  const int64_t fitted = inputs.size(0) * 3 / 4;
  const auto seen = inputs.slice(/*dim=*/0, 0, fitted);
  const auto unseen = inputs.slice(/*dim=*/0, fitted);
  const auto& router = block->router->options;
  const int64_t group_size = router.num_experts() / router.form().groups;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  Revival revival;
  revival.layer = layer;
  auto waiting = dead;
  for (const int64_t expert : dead) {
    const auto counts = counts_on_host(expert_counts(block->router(seen)));
    const int64_t donor = find_donor(counts, waiting, expert, group_size);
    TORCH_CHECK(donor >= 0, "revive_experts: no expert of layer ", layer, " is left to share");
    waiting.erase(waiting.begin());
    copy_expert(block, donor, expert, generator);
    split_tokens(block, donor, expert, seen, unseen, generator);
    split_moments(block, optimizer, layer, donor, expert);
    revival.experts.push_back(expert);
    revival.donors.push_back(donor);
  }
  return revival;
}

std::string describe(const Revival& revival) {
  std::ostringstream text;
  text << "layer " << revival.layer << ": revived ";
  for (size_t i = 0; i < revival.experts.size(); ++i) {
    text << (i == 0 ? "" : ", ") << "expert " << revival.experts[i] << " from expert "
         << revival.donors[i];
  }
  return text.str();
}

} // namespace moe
