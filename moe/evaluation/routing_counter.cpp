#include "moe/evaluation/routing_counter.h"

#include <algorithm>

#include "moe/error.h"
#include "moe/libtorch.h"

namespace moe {
namespace {

void add_to(torch::Tensor& sum, const torch::Tensor& value) {
  sum = sum.defined() ? sum + value : value;
}

// The largest softmax of each token's logits: [T] float64.
torch::Tensor largest_shares(const torch::Tensor& logits) {
  return (logits.amax(/*dim=*/1) - logits.logsumexp(/*dim=*/1)).exp().to(torch::kFloat64);
}

} // namespace

void RoutingCounter::add(const std::vector<Routing>& layers, const torch::Tensor& token_mask) {
  const torch::NoGradGuard no_grad;
  sums_.resize(layers.size());
  for (size_t i = 0; i < layers.size(); ++i) {
    const Routing& routing = layers[i];
    auto shares = largest_shares(routing.logits.detach()); // [T]
    auto tokens = torch::full({}, shares.size(0), routing.experts.options());
    if (token_mask.defined()) {
      shares = torch::where(token_mask, shares, 0.0);
      tokens = token_mask.sum();
    }
    Sums& sums = sums_[i];
    add_to(sums.rows, chosen_counts(routing, token_mask));
    add_to(sums.dropped, dropped_rows(routing, token_mask));
    add_to(sums.confidence, shares.sum());
    add_to(sums.tokens, tokens);
  }
}

std::vector<LayerRouting> RoutingCounter::statistics(const std::vector<int64_t>& layers) const {
  check(
      sums_.size() == layers.size() || sums_.empty(),
      "routing statistics: ",
      sums_.size(),
      " layers were counted, ",
      layers.size(),
      " are asked for");
  std::vector<LayerRouting> statistics;
  for (size_t i = 0; i < sums_.size(); ++i) {
    const Sums& sums = sums_[i];
    auto routing = layer_routing(layers[i], counts_on_host(sums.rows));
    const auto rows = static_cast<double>(std::max<int64_t>(1, routing.rows));
    const auto tokens = static_cast<double>(std::max<int64_t>(1, sums.tokens.item<int64_t>()));
    routing.dropped = static_cast<double>(sums.dropped.item<int64_t>()) / rows;
    routing.confidence = sums.confidence.item<double>() / tokens;
    statistics.push_back(std::move(routing));
  }
  return statistics;
}

} // namespace moe
