#include "moe/generation/token_routing.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "moe/kernels/cpu_softmax.h"
#include "moe/kernels/cpu_top_k.h"

namespace moe {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

bool chooses_groups(const TopKRouterOptions& options) {
  return options.form().selection == RouterSelection::groups_by_max ||
         options.form().selection == RouterSelection::groups_by_top2;
}

float softplus(float x) {
  // Beyond this, as in LibTorch, it is x.
  constexpr float threshold = 20.0F;
  return x > threshold ? x : std::log1p(std::exp(x));
}

void make_scores(RouterScore score, std::vector<float>& values) {
  switch (score) {
    case RouterScore::softmax:
      cpu::softmax_row(static_cast<int64_t>(values.size()), values.data());
      return;
    case RouterScore::sigmoid:
      for (float& value : values) {
        value = 1.0F / (1.0F + std::exp(-value));
      }
      return;
    case RouterScore::sqrt_softplus:
      for (float& value : values) {
        value = std::sqrt(std::max(softplus(value), std::numeric_limits<float>::min()));
      }
      return;
    case RouterScore::identity:
      return;
  }
}

/// What experts are chosen by: the scores, or the logits, which are in the same order, where
/// those of large logits are equal.
void make_preference(
    const TopKRouterOptions& options,
    const float* logits,
    const float* selection_bias,
    TokenRouting& routing) {
  auto& preference = routing.preference;
  if (selection_bias == nullptr && !chooses_groups(options)) {
    preference.assign(logits, logits + options.num_experts());
    return;
  }
  preference = routing.scores;
  for (size_t i = 0; i < preference.size() && selection_bias != nullptr; ++i) {
    preference[i] += selection_bias[i];
  }
}

void find_best(const std::vector<float>& values, int64_t k, std::vector<int64_t>& best) {
  best.resize(static_cast<size_t>(k));
  cpu::top_k(static_cast<int64_t>(values.size()), values.data(), k, best.data());
}

float rank_of_group(RouterSelection selection, const float* first, const float* end) {
  const float* const best = std::max_element(first, end);
  if (selection == RouterSelection::groups_by_max) {
    return *best;
  }
  float second = kNever;
  for (const float* value = first; value != end; ++value) {
    second = value == best ? second : std::max(second, *value);
  }
  return *best + second;
}

void leave_best_groups(const TopKRouterOptions& options, TokenRouting& routing) {
  auto& preference = routing.preference;
  const int64_t size = options.num_experts() / options.form().groups;
  auto& ranks = routing.group_rank;
  ranks.clear();
  for (int64_t group = 0; group < options.form().groups; ++group) {
    const float* const first = preference.data() + group * size;
    ranks.push_back(rank_of_group(options.form().selection, first, first + size));
  }
  auto& kept = routing.best;
  find_best(ranks, options.form().groups_kept, kept);
  for (int64_t group = 0; group < options.form().groups; ++group) {
    if (std::find(kept.begin(), kept.end(), group) == kept.end()) {
      std::fill_n(preference.begin() + group * size, size, kNever);
    }
  }
}

/// The weights before they are scaled: scores, or the softmax of the chosen experts' logits.
void weigh(const TopKRouterOptions& options, const float* logits, TokenRouting& routing) {
  auto& chosen = routing.chosen;
  float sum = 0.0F;
  if (options.form().weighting == RouterWeighting::softmax) {
    // In the order of the choice, which need not be that of the logits.
    float largest = kNever;
    for (const auto& [expert, weight] : chosen) {
      largest = std::max(largest, logits[expert]);
    }
    for (auto& [expert, weight] : chosen) {
      weight = std::exp(logits[expert] - largest);
      sum += weight;
    }
  } else {
    for (auto& [expert, weight] : chosen) {
      weight = routing.scores[static_cast<size_t>(expert)];
      sum += weight;
    }
    sum = options.form().normalize_weights
              ? std::max(sum, static_cast<float>(options.form().normalize_minimum))
              : 1.0F;
  }
  for (auto& [expert, weight] : chosen) {
    weight *= static_cast<float>(options.form().routed_scaling_factor) / sum;
  }
}

} // namespace

void route_token(
    const TopKRouterOptions& options,
    const float* logits,
    const float* selection_bias,
    TokenRouting& routing) {
  routing.scores.assign(logits, logits + options.num_experts());
  make_scores(options.form().score, routing.scores);
  make_preference(options, logits, selection_bias, routing);
  if (chooses_groups(options)) {
    leave_best_groups(options, routing);
  }
  find_best(routing.preference, options.experts_per_token(), routing.best);
  routing.chosen.clear();
  for (const int64_t expert : routing.best) {
    routing.chosen.push_back({expert, 0.0F});
  }
  weigh(options, logits, routing);
}

bool can_route_token(const TopKRouterOptions& options) {
  return options.form().gate == RouterGate::linear && options.form().logit_cap == 0.0 &&
         options.form().noise == RouterNoise::none && options.form().normalize_power == 1.0 &&
         (options.form().selection == RouterSelection::top_k || chooses_groups(options)) &&
         (options.form().weighting == RouterWeighting::scores ||
          options.form().weighting == RouterWeighting::softmax);
}

} // namespace moe
