#include "moe/training/losses.h"

#include <algorithm>
#include <limits>

#include "moe/libtorch.h"

namespace moe {
namespace {

template <class Loss>
torch::Tensor mean_over_layers(const std::vector<Routing>& layers, const Loss& loss) {
  torch::Tensor sum;
  for (const auto& routing : layers) {
    sum = sum.defined() ? sum + loss(routing) : loss(routing);
  }
  return sum.defined() ? sum / static_cast<double>(layers.size()) : sum;
}

/// The scores [T, E] divided by their sum over the experts.
torch::Tensor score_shares(const Routing& routing) {
  // Sigmoids of very negative logits may all be 0.
  return routing.scores / routing.scores.sum(/*dim=*/1, /*keepdim=*/true).clamp_min(1e-20);
}

/// The mean of `per_token` [T, ...]; 0 if there are no tokens.
torch::Tensor token_mean(const torch::Tensor& per_token) {
  return per_token.sum(/*dim=*/0) /
         static_cast<double>(std::max<int64_t>(per_token.size(0), 1));
}

/// The number of experts times Σ f · P, from the rows and the mean share of each [..., E].
torch::Tensor balance(const torch::Tensor& counts, const torch::Tensor& mean_share) {
  const auto rows = counts.sum(/*dim=*/-1, /*keepdim=*/true).clamp_min(1);
  const auto load = counts.to(mean_share.scalar_type()) / rows;
  return (load * mean_share).sum(/*dim=*/-1) * static_cast<double>(counts.size(-1));
}

/// Of `per_expert` [..., E] the sums over groups of neighbouring experts: [..., groups].
torch::Tensor group_sums(const torch::Tensor& per_expert, int64_t num_groups) {
  return per_expert.unflatten(/*dim=*/-1, {num_groups, -1}).sum(/*dim=*/-1);
}

void check_devices(const char* what, const Routing& routing, int64_t num_devices) {
  const int64_t experts = routing.logits.size(1);
  TORCH_CHECK(
      num_devices >= 1 && experts % num_devices == 0,
      what,
      ": num_devices (",
      num_devices,
      ") must divide the ",
      experts,
      " experts evenly");
}

} // namespace

torch::Tensor load_balancing_loss(const Routing& routing) {
  return load_balancing_loss(routing, chosen_counts(routing));
}

torch::Tensor load_balancing_loss(const Routing& routing, const torch::Tensor& counts) {
  return balance(counts, token_mean(score_shares(routing)));
}

torch::Tensor load_balancing_loss(const std::vector<Routing>& layers) {
  return mean_over_layers(
      layers, [](const Routing& routing) { return load_balancing_loss(routing); });
}

torch::Tensor pooled_balancing_loss(const std::vector<Routing>& layers) {
  if (layers.empty()) {
    return {};
  }
  torch::Tensor counts; // [E]
  torch::Tensor shares; // [E]
  for (const auto& routing : layers) {
    const auto layer_counts = chosen_counts(routing);
    const auto layer_share = token_mean(score_shares(routing));
    counts = counts.defined() ? counts + layer_counts : layer_counts;
    shares = shares.defined() ? shares + layer_share : layer_share;
  }
  const auto count = static_cast<double>(layers.size());
  const auto tokens =
      count * static_cast<double>(std::max<int64_t>(layers[0].experts.size(0), 1));
  return (counts.to(shares.scalar_type()) / tokens * shares / count).sum() *
         static_cast<double>(counts.size(0));
}

torch::Tensor sequence_balancing_loss(
    const Routing& routing, int64_t num_sequences, const torch::Tensor& token_mask) {
  const int64_t tokens = routing.experts.size(0);
  TORCH_CHECK(
      num_sequences >= 1 && tokens % num_sequences == 0,
      "sequence_balancing_loss: ",
      tokens,
      " tokens are not ",
      num_sequences,
      " sequences of one length");
  auto shares = score_shares(routing).view({num_sequences, -1, routing.scores.size(1)});
  const auto experts = routing.experts.view({num_sequences, -1, routing.experts.size(1)});
  auto ones = routing.chosen.defined() ? routing.chosen.to(torch::kInt64).view_as(experts)
                                       : torch::ones_like(experts);               // [B, S, K]
  auto length = torch::full({num_sequences, 1}, experts.size(1), ones.options()); // [B, 1]
  if (token_mask.defined()) {
    const auto mask = token_mask.view({num_sequences, -1, 1}); // [B, S, 1]
    ones = ones * mask;
    shares = shares.masked_fill(~mask, 0.0);
    length = mask.sum(/*dim=*/1);
  }
  const auto counts = torch::zeros({num_sequences, shares.size(2)}, ones.options())
                          .scatter_add_(/*dim=*/1, experts.flatten(1), ones.flatten(1));
  const auto losses = balance(counts, shares.sum(/*dim=*/1) / length.clamp_min(1)); // [B]
  return losses.sum() / length.count_nonzero().clamp_min(1);
}

torch::Tensor importance_loss(const Routing& routing) {
  const auto weights = torch::zeros_like(routing.scores)
                           .scatter(/*dim=*/1, routing.experts, routing.weights); // [T, E]
  const auto importance = weights.sum(/*dim=*/0);                                 // [E]
  const double least = std::numeric_limits<float>::min(); // without tokens
  return importance.var(/*unbiased=*/false) / importance.mean().square().clamp_min(least);
}

torch::Tensor device_balancing_loss(const Routing& routing, int64_t num_devices) {
  check_devices("device_balancing_loss", routing, num_devices);
  return balance(
      group_sums(chosen_counts(routing), num_devices),
      group_sums(token_mean(score_shares(routing)), num_devices));
}

torch::Tensor communication_balancing_loss(
    const Routing& routing, int64_t num_devices, int64_t devices_per_token) {
  check_devices("communication_balancing_loss", routing, num_devices);
  const int64_t experts_per_device = routing.logits.size(1) / num_devices;
  const auto devices = routing.experts.div(experts_per_device, "floor"); // [T, K]
  const auto ones = routing.chosen.defined()
                        ? routing.chosen.to(routing.scores.scalar_type())
                        : torch::ones(devices.sizes(), routing.scores.options());
  const auto sent =
      token_mean(torch::zeros({devices.size(0), num_devices}, routing.scores.options())
                     .scatter_add_(/*dim=*/1, devices, ones)
                     .clamp_max(1.0)); // [devices]
  const auto shares = group_sums(token_mean(score_shares(routing)), num_devices);
  return (sent * shares).sum() * num_devices / devices_per_token;
}

torch::Tensor router_z_loss(const Routing& routing) {
  return token_mean(routing.logits.logsumexp(/*dim=*/1).square());
}

torch::Tensor router_z_loss(const std::vector<Routing>& layers) {
  return mean_over_layers(
      layers, [](const Routing& routing) { return router_z_loss(routing); });
}

} // namespace moe
