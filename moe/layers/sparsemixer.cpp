#include "moe/layers/sparsemixer.h"

#include <limits>

#include "moe/libtorch.h"

namespace moe {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

/// One expert per token and its weight, both [T, 1].
struct OneChoice {
  torch::Tensor expert;
  torch::Tensor weight;
};

/// One draw from the distribution that has `logits` [T, E]: [T, 1].
torch::Tensor draw(const torch::Tensor& logits) {
  const auto gumbel = -torch::empty_like(logits).exponential_().log();
  return (logits.detach() + gumbel).argmax(/*dim=*/-1, /*keepdim=*/true);
}

/// `weight` as it is where `is_best`, otherwise in one of four cases, else a third of it; with
/// the gradient of `weight`.
torch::Tensor with_midpoint(const torch::Tensor& weight, const torch::Tensor& is_best) {
  constexpr double share_of_whole = 0.75;
  const auto whole = is_best | (torch::rand_like(weight) > share_of_whole);
  const auto value = torch::where(whole, weight.detach(), weight.detach() / 3.0);
  return weight + (value - weight.detach());
}

/// Experts that are out of the question have a logit of minus infinity in `logits`; `all` are
/// the logits of every expert.
OneChoice choose(
    const torch::Tensor& logits, const torch::Tensor& all, double jitter, bool training) {
  const auto [best_logit, best] = logits.detach().max(/*dim=*/-1, /*keepdim=*/true);
  const auto distance =
      (best_logit - all.detach()) / torch::maximum(all.detach().abs(), best_logit);
  const auto near = logits.masked_fill(distance > 2.0 * jitter, kMinusInfinity);
  const auto shares = torch::softmax(near, /*dim=*/-1);
  if (!training) {
    return {best, shares.gather(/*dim=*/-1, best)};
  }
  const auto expert = draw(near);
  return {expert, with_midpoint(shares.gather(/*dim=*/-1, expert), expert == best)};
}

} // namespace

SparseMixerChoice sparsemixer(const torch::Tensor& logits, double jitter, bool training) {
  const auto first = choose(logits, logits, jitter, training);
  const auto without_first = logits.scatter(/*dim=*/-1, first.expert, kMinusInfinity);
  const auto second = choose(without_first, logits, jitter, training);
  return {
      torch::cat({first.expert, second.expert}, /*dim=*/-1),
      torch::cat({first.weight, second.weight}, /*dim=*/-1)};
}

} // namespace moe
